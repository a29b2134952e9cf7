//! Requests to the hub: what a file is, and its bytes from an offset on. Redirects are followed here, one by one, since the
//! token must not go to another host, and since the first answer already says what the file is.

use std::io::Read;
use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::super::store::{self, hub_home, var};
use longtake::model::preset::{ModelFile, Source};

/// Redirects in a row.
const MAX_REDIRECTS: usize = 10;
/// Longest wait for one answer, when the hub's own variable does not say.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest `Retry-After` that is obeyed.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Worth another try: no connection, a cut, or a server that is out of order.
    #[error("{what}")]
    Passing {
        /// What happened.
        what: String,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
    /// Another try would end the same way.
    #[error("{0}")]
    Final(String),
}

impl From<ureq::Error> for HttpError {
    fn from(err: ureq::Error) -> Self {
        let what = format!(
            "the server cannot be reached ({err}); check the connection, HTTPS_PROXY and HF_ENDPOINT"
        );
        match err {
            ureq::Error::BadUri(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                Self::Final(what)
            }
            _ => Self::Passing { what, wait: None },
        }
    }
}

/// What the server says of a file before it sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Revision that it is of; GitHub does not say.
    pub(super) commit: Option<String>,
    /// SHA-256 of the file, or git's SHA-1 of it, in hexadecimal; GitHub says something else.
    pub(super) etag: Option<String>,
    /// Its size.
    pub(super) bytes: Option<u64>,
}

/// A file's bytes.
pub(super) struct Stream {
    /// Offset that they start at.
    pub(super) start: u64,
    pub(super) reader: Box<dyn Read>,
}

/// The servers, and who asks.
pub(super) struct Web {
    agent: Agent,
    hub: String,
    github: String,
    token: Option<String>,
}

impl Web {
    /// As the environment says: `HF_ENDPOINT`, and a token from `HF_TOKEN`, else from the file at `HF_TOKEN_PATH` or `HF_HOME/token`.
    pub(super) fn from_env() -> Self {
        let token_file = || {
            let path = var("HF_TOKEN_PATH").map(Into::into);
            let path = path.or_else(|| Some(hub_home()?.join("token")))?;
            std::fs::read_to_string(path).ok()
        };
        let token = var("HF_TOKEN").or_else(token_file);
        let token = token
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let endpoint = |name, usual: &str| {
            let url = var(name).unwrap_or_else(|| usual.to_owned());
            url.trim_end_matches('/').to_owned()
        };
        let secs = var("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|secs| secs.parse().ok());
        // Neither a time that every answer takes nor one that no clock can hold.
        let patience = secs.map_or(PATIENCE, |secs: u64| {
            Duration::from_secs(secs.clamp(1, 3600))
        });
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .user_agent(concat!("longtake/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self {
            agent,
            hub: endpoint("HF_ENDPOINT", "https://huggingface.co"),
            github: endpoint("LONGTAKE_GITHUB_ENDPOINT", "https://github.com"),
            token,
        }
    }

    /// The page of a file's repository, for people.
    pub(super) fn page(&self, file: &ModelFile) -> String {
        let root = match file.source {
            Source::HuggingFace => &self.hub,
            Source::Github => &self.github,
        };
        format!("{root}/{}", file.repo)
    }

    /// Where the file lies at `commit`, else at the commit that is named for it, else at the newest one.
    fn url(&self, file: &ModelFile, commit: Option<&str>) -> String {
        let (page, path) = (self.page(file), encoded(&file.path));
        let at = commit.or(file.revision.as_deref()).unwrap_or("main");
        match file.source {
            Source::HuggingFace => format!("{page}/resolve/{at}/{path}"),
            Source::Github => format!("{page}/raw/{at}/{path}"),
        }
    }

    /// What the file is.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or does not say.
    pub(super) fn facts(&self, file: &ModelFile) -> Result<Facts, HttpError> {
        let mut facts = Facts {
            commit: None,
            etag: None,
            bytes: None,
        };
        let is_hub = file.source == Source::HuggingFace;
        self.follow(file, None, |agent, url, token| {
            let mut request = agent.head(url).header("Accept-Encoding", "identity");
            if let Some(token) = token {
                request = request.header("Authorization", token);
            }
            let answer = request.call()?;
            let header = |name: &str| text(&answer, name);
            let first = |old: &mut Option<String>, new: Option<String>| {
                if old.is_none() {
                    *old = new;
                }
            };
            if is_hub {
                first(&mut facts.commit, header("x-repo-commit"));
                first(&mut facts.etag, header("x-linked-etag").map(bare_etag));
            }
            facts.bytes = facts
                .bytes
                .or_else(|| header("x-linked-size")?.parse().ok());
            if answer.status().is_success() {
                first(&mut facts.etag, header("etag").map(bare_etag));
                facts.bytes = facts
                    .bytes
                    .or_else(|| header("content-length")?.parse().ok());
            }
            // The hub has said everything before it sends us elsewhere for the bytes.
            let is_known =
                is_hub && facts.etag.is_some() && facts.bytes.is_some() && facts.commit.is_some();
            Ok((answer, is_known))
        })?;
        if is_hub {
            let name =
                |value: &Option<String>| value.as_deref().is_some_and(longtake::store::is_name);
            if !name(&facts.commit) || !name(&facts.etag) {
                return Err(HttpError::Final(format!(
                    "{} does not say which revision or which checksum the file has; check HF_ENDPOINT",
                    self.hub
                )));
            }
        }
        Ok(facts)
    }

    /// The file's bytes from `start` on, or from 0 if the server cannot start there: those of the commit that `facts` are of,
    /// whatever has become the newest one since.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub(super) fn stream(
        &self,
        file: &ModelFile,
        facts: &Facts,
        start: u64,
    ) -> Result<Stream, HttpError> {
        let answer = self.follow(file, facts.commit.as_deref(), |agent, url, token| {
            let mut request = agent.get(url).header("Accept-Encoding", "identity");
            if let Some(token) = token {
                request = request.header("Authorization", token);
            }
            if 0 < start {
                request = request.header("Range", format!("bytes={start}-"));
            }
            Ok((request.call()?, false))
        })?;
        let begins = |range: String| -> Option<u64> {
            let range = range
                .strip_prefix("bytes ")?
                .split('-')
                .next()?
                .trim()
                .parse();
            range.ok()
        };
        let start = match answer.status().as_u16() {
            206 => text(&answer, "content-range")
                .and_then(begins)
                .ok_or_else(|| {
                    HttpError::Final(
                        "the server sends a part of the file and does not say which".to_owned(),
                    )
                })?,
            _ => 0,
        };
        Ok(Stream {
            start,
            reader: Box::new(answer.into_body().into_reader()),
        })
    }

    /// Asks until an answer is no redirect, or `ask` says that it knows enough.
    fn follow(
        &self,
        file: &ModelFile,
        commit: Option<&str>,
        mut ask: impl FnMut(&Agent, &str, Option<&str>) -> Result<(Response<Body>, bool), HttpError>,
    ) -> Result<Response<Body>, HttpError> {
        let mut url = self.url(file, commit);
        for _ in 0..MAX_REDIRECTS {
            let token = self
                .token
                .as_ref()
                .filter(|_| is_same_origin(&url, &self.hub));
            let token = token.map(|token| format!("Bearer {token}"));
            let (answer, is_enough) = ask(&self.agent, &url, token.as_deref())?;
            let status = answer.status();
            if status.is_redirection() {
                if is_enough {
                    return Ok(answer);
                }
                let to = text(&answer, "location").and_then(|to| joined(&url, &to));
                let to =
                    to.ok_or_else(|| HttpError::Final(format!("{url} redirects to nowhere")))?;
                if url.starts_with("https:") && !to.starts_with("https:") {
                    return Err(HttpError::Final(format!(
                        "{url} redirects to a connection without encryption, which was refused"
                    )));
                }
                url = to;
                continue;
            }
            return match status.is_success() {
                true => Ok(answer),
                false => Err(self.refusal(file, &answer)),
            };
        }
        Err(HttpError::Final(format!("{url} redirects in circles")))
    }

    fn refusal(&self, file: &ModelFile, answer: &Response<Body>) -> HttpError {
        let page = self.page(file);
        let wait = text(answer, "retry-after").and_then(|secs| secs.trim().parse().ok());
        let wait = wait.map(|secs| Duration::from_secs(secs).min(MAX_WAIT));
        match answer.status().as_u16() {
            401 | 403 => HttpError::Final(match self.token {
                None => format!(
                    "{page} wants to know who asks ({}); log in there, accept its terms, and set HF_TOKEN to a token of \
                     your account",
                    answer.status()
                ),
                Some(_) => format!(
                    "{page} does not let this token in ({}); accept its terms there, and check HF_TOKEN",
                    answer.status()
                ),
            }),
            404 | 410 => HttpError::Final(format!(
                "{page} has no file {:?} (any more); look there for its new name",
                file.path
            )),
            code @ (408 | 425 | 429 | 500..=599) => HttpError::Passing {
                what: match code {
                    429 => "the server asks for a pause (429)".to_owned(),
                    _ => format!("the server is out of order ({})", answer.status()),
                },
                wait,
            },
            _ => HttpError::Final(format!("{page} answers {}", answer.status())),
        }
    }
}

/// Whether nothing may be downloaded.
pub(super) fn is_offline() -> bool {
    store::is_set("HF_HUB_OFFLINE") || store::is_set("TRANSFORMERS_OFFLINE")
}

fn text(answer: &Response<Body>, name: &str) -> Option<String> {
    let value = answer.headers().get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// `W/"abc"` is `abc`.
fn bare_etag(etag: String) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

/// A path in a URL: what is neither plain nor a slash is escaped.
fn encoded(path: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    path.bytes()
        .map(|b| match is_plain(b) {
            true => char::from(b).to_string(),
            false => format!("%{b:02X}"),
        })
        .collect()
}

fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?.as_str().to_ascii_lowercase();
    Some((uri.scheme_str()?.to_owned(), authority))
}

/// Whether scheme, host and port are the same.
fn is_same_origin(a: &str, b: &str) -> bool {
    origin(a).is_some_and(|a| Some(a) == origin(b))
}

/// The address that `to` means on the page `from`.
fn joined(from: &str, to: &str) -> Option<String> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return Some(to.to_owned());
    }
    let (scheme, authority) = origin(from)?;
    match (to.starts_with("//"), to.starts_with('/')) {
        (true, _) => Some(format!("{scheme}:{to}")),
        (_, true) => Some(format!("{scheme}://{authority}{to}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        assert!(is_same_origin("https://a.co/x", "https://A.co"));
        assert!(!is_same_origin("https://a.co.evil/x", "https://a.co"));
        assert!(!is_same_origin("https://a.co:8443/x", "https://a.co"));
        assert!(!is_same_origin("http://a.co/x", "https://a.co"));
        assert!(!is_same_origin("https://a.co@evil/x", "https://a.co"));
    }

    #[test]
    fn addresses_are_put_together() {
        assert_eq!(joined("https://a.co/x/y", "/z").unwrap(), "https://a.co/z");
        assert_eq!(
            joined("https://a.co/x", "//b.co/z").unwrap(),
            "https://b.co/z"
        );
        assert_eq!(
            joined("https://a.co/x", "http://b/z").unwrap(),
            "http://b/z"
        );
        assert_eq!(joined("https://a.co/x", "ftp://b/z"), None);
        assert_eq!(
            encoded("causal-forcing++/a b.pt"),
            "causal-forcing%2B%2B/a%20b.pt"
        );
        assert_eq!(bare_etag("W/\"abc\"".to_owned()), "abc");
    }
}
