//! Writes checkpoints as `torch.save` does, of any size: values are left out where the file system can have holes.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// One tensor to write.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
}

/// What values are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    F32,
    F16,
    Bf16,
}

impl Stored {
    pub fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    fn storage(self) -> &'static str {
        match self {
            Self::F32 => "FloatStorage",
            Self::F16 => "HalfStorage",
            Self::Bf16 => "BFloat16Storage",
        }
    }
}

/// The two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    Zip,
    Stream,
}

/// Writes `{part: {tensors}}`, or without a part the tensors alone. All values are zero.
pub fn write(
    path: &Path,
    container: Container,
    part: Option<&str>,
    stored: Stored,
    tensors: &[Tensor],
) -> io::Result<()> {
    let object = object(part, stored, tensors);
    let bytes: Vec<u64> = tensors
        .iter()
        .map(|t| (t.shape.iter().product::<usize>() * stored.width()) as u64)
        .collect();
    let mut out = Out(BufWriter::new(File::create(path)?), 0);
    match container {
        Container::Zip => zip(&mut out, &object, &bytes)?,
        Container::Stream => stream(&mut out, &object, stored, &bytes)?,
    }
    let end = out.1;
    out.0.flush()?;
    out.0.get_ref().set_len(end)
}

/// A file that knows where it is.
struct Out(BufWriter<File>, u64);

impl Out {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.1 += bytes.len() as u64;
        self.0.write_all(bytes)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.1 += bytes;
        self.0.seek(SeekFrom::Start(self.1)).map(drop)
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn int(out: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend((value as u64).to_le_bytes());
        }
    }
}

fn tuple(out: &mut Vec<u8>, values: &[usize]) {
    out.push(b'(');
    values.iter().for_each(|&value| int(out, value));
    out.push(b't');
}

const ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";

fn object(part: Option<&str>, stored: Stored, tensors: &[Tensor]) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    if let Some(part) = part {
        out.push(b'}');
        text(&mut out, part);
    }
    out.extend(ORDERED_DICT);
    out.push(b'(');
    for (key, tensor) in tensors.iter().enumerate() {
        text(&mut out, &tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{}\n", stored.storage()).bytes());
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        int(&mut out, tensor.shape.iter().product());
        out.extend(b"tQ");
        int(&mut out, 0);
        tuple(&mut out, &tensor.shape);
        let strides: Vec<usize> = (1..=tensor.shape.len())
            .map(|i| tensor.shape[i..].iter().product())
            .collect();
        tuple(&mut out, &strides);
        out.push(0x89);
        out.extend(ORDERED_DICT);
        out.extend(b"tR");
    }
    out.push(b'u');
    if part.is_some() {
        out.push(b's');
    }
    out.push(b'.');
    out
}

fn stream(out: &mut Out, object: &[u8], stored: Stored, bytes: &[u64]) -> io::Result<()> {
    out.put(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")?;
    let mut facts = vec![0x80, 2, b'}'];
    text(&mut facts, "little_endian");
    facts.extend([0x88, b's', b'.']);
    out.put(&facts)?;
    out.put(object)?;
    let mut keys = vec![0x80, 2, b']', b'('];
    (0..bytes.len()).for_each(|key| text(&mut keys, &key.to_string()));
    keys.extend(b"e.");
    out.put(&keys)?;
    for &bytes in bytes {
        out.put(&(bytes / stored.width() as u64).to_le_bytes())?;
        out.skip(bytes)?;
    }
    Ok(())
}

/// One entry after another, the data at multiples of 64, then the directory with 64-bit offsets.
fn zip(out: &mut Out, object: &[u8], bytes: &[u64]) -> io::Result<()> {
    let mut directory = Vec::new();
    entry(out, &mut directory, "archive/data.pkl", object.len() as u64)?;
    out.put(object)?;
    entry(out, &mut directory, "archive/byteorder", 6)?;
    out.put(b"little")?;
    for (key, &bytes) in bytes.iter().enumerate() {
        entry(out, &mut directory, &format!("archive/data/{key}"), bytes)?;
        out.skip(bytes)?;
    }
    let (start, len, count) = (out.1, directory.len() as u64, bytes.len() as u64 + 2);
    out.put(&directory)?;
    let end64 = out.1;
    let mut end = Vec::new();
    end.extend(b"PK\x06\x06");
    end.extend(44_u64.to_le_bytes());
    end.extend([45, 0, 45, 0]);
    end.extend([0; 8]);
    for value in [count, count, len, start] {
        end.extend(value.to_le_bytes());
    }
    end.extend(b"PK\x06\x07");
    end.extend([0; 4]);
    end.extend(end64.to_le_bytes());
    end.extend(1_u32.to_le_bytes());
    end.extend(b"PK\x05\x06");
    end.extend([0; 4]);
    end.extend([0xff; 12]);
    end.extend([0; 2]);
    out.put(&end)
}

fn entry(out: &mut Out, directory: &mut Vec<u8>, name: &str, bytes: u64) -> io::Result<()> {
    let at = out.1;
    let size = u32::try_from(bytes)
        .map_err(io::Error::other)?
        .to_le_bytes();
    let head = 30 + name.len() as u64 + 4;
    let padding = (64 - (at + head) % 64) % 64;
    let mut local = Vec::new();
    local.extend(b"PK\x03\x04\x2d\0\0\0\0\0\0\0\0\0");
    // The sum is left out, as torch.save does where it is told to.
    local.extend([0; 4]);
    local.extend(size);
    local.extend(size);
    local.extend((name.len() as u16).to_le_bytes());
    local.extend((padding as u16 + 4).to_le_bytes());
    local.extend(name.bytes());
    local.extend(b"FB");
    local.extend((padding as u16).to_le_bytes());
    local.extend(vec![b'Z'; padding as usize]);
    out.put(&local)?;
    directory.extend(b"PK\x01\x02\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    directory.extend([0; 4]);
    directory.extend(size);
    directory.extend(size);
    directory.extend((name.len() as u16).to_le_bytes());
    directory.extend(12_u16.to_le_bytes());
    directory.extend([0; 10]);
    directory.extend([0xff; 4]);
    directory.extend(name.bytes());
    directory.extend([1, 0, 8, 0]);
    directory.extend(at.to_le_bytes());
    Ok(())
}
