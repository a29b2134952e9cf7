//! A server on this machine that speaks as Hugging Face and its store of large files do, as far as downloads go, and that can
//! misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// First byte that is asked for.
    pub fn start(&self) -> Option<usize> {
        let range = self.headers.get("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body after which the connection is cut.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// `body` from where the request asks on.
    pub fn file(request: &Request, body: &[u8]) -> Self {
        match request.start() {
            Some(start) => Self {
                body: body[start..].to_vec(),
                ..Self::new(206).with(
                    "Content-Range",
                    format!("bytes {start}-{}/{}", body.len() - 1, body.len()),
                )
            },
            None => Self {
                body: body.to_vec(),
                ..Self::new(200)
            },
        }
    }
}

/// Answers requests until the test's process ends.
pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` is given each request and how many of the same method and path there were before.
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One after the other: the order of what is seen is the order of what came.
                let _ = serve(&stream, &log, &answer);
            }
        });
        Self { url, seen }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: &TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &impl Fn(&Request, usize) -> Reply,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let mut words = first.split(' ');
    let mut request = Request {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        headers: BTreeMap::new(),
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        request
            .headers
            .insert(name.to_lowercase(), value.trim().to_owned());
    }
    let before = {
        let mut log = log.lock().unwrap();
        let same = |old: &&Request| old.method == request.method && old.path == request.path;
        let before = log.iter().filter(same).count();
        log.push(request.clone());
        before
    };
    let reply = answer(&request, before);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
    stream.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        let len = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        stream.write_all(&reply.body[..len])?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the other side has closed too, so that nothing that was sent is thrown away.
    let _ = (&mut &*stream).take(1 << 16).read_to_end(&mut Vec::new());
    Ok(())
}
