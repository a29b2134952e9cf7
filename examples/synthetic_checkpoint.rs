//! Checkpoints of published size with zeros for values, to see what reading them costs:
//!
//! ```sh
//! cargo run --release --example synthetic_checkpoint -- write generator f32 zip /scratch/generator.pt
//! cargo run --release --example synthetic_checkpoint -- write text bf16 stream /scratch/text.pth
//! cargo run --release --example synthetic_checkpoint -- read /scratch/generator.pt
//! ```
//!
//! Files have holes where the file system knows holes; elsewhere they take 2.8 to 11.4 GB. `read` takes every tensor as half floats, one
//! after the other, and prints the peak of this process's memory.

#[path = "../tests/hostile/torch_file.rs"]
mod torch_file;

use std::error::Error;
use std::path::Path;

use longtake::model::config::DitConfig;
use longtake::weights::Weights;
use torch_file::{Container, Stored, Tensor, write};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["write", kind, stored, container, path] => {
            let stored = match stored {
                "f32" => Stored::F32,
                "f16" => Stored::F16,
                "bf16" => Stored::Bf16,
                _ => return Err("f32, f16 or bf16".into()),
            };
            let container = match container {
                "zip" => Container::Zip,
                "stream" => Container::Stream,
                _ => return Err("zip or stream".into()),
            };
            let (part, tensors) = match kind {
                "generator" => (Some("generator_ema"), generator()),
                "text" => (None, text()),
                _ => return Err("generator or text".into()),
            };
            write(Path::new(path), container, part, stored, &tensors)?;
        }
        ["read", path] => read(Path::new(path))?,
        _ => return Err("write generator|text f32|f16|bf16 zip|stream PATH, or read PATH".into()),
    }
    Ok(())
}

fn generator() -> Vec<Tensor> {
    let tensors = DitConfig::selfforcing_1_3b().tensors();
    let named = |t: longtake::weights::Expected| Tensor {
        name: format!("model.{}", t.name),
        shape: t.shape,
    };
    tensors.into_iter().map(named).collect()
}

/// The text encoder UMT5-XXL.
///
/// Source: Wan 2.1, `wan/modules/t5.py`.
fn text() -> Vec<Tensor> {
    const WIDTH: usize = 4096;
    const INNER: usize = 10240;
    let one = |name: String, shape: &[usize]| Tensor {
        name: format!("{name}.weight"),
        shape: shape.to_vec(),
    };
    let mut all = vec![one("token_embedding".to_owned(), &[256_384, WIDTH])];
    for i in 0..24 {
        let at = |name: &str| format!("blocks.{i}.{name}");
        all.push(one(at("norm1"), &[WIDTH]));
        all.extend(["q", "k", "v", "o"].map(|n| one(at(&format!("attn.{n}")), &[WIDTH, WIDTH])));
        all.push(one(at("norm2"), &[WIDTH]));
        all.extend(["gate.0", "fc1"].map(|n| one(at(&format!("ffn.{n}")), &[INNER, WIDTH])));
        all.push(one(at("ffn.fc2"), &[WIDTH, INNER]));
        all.push(one(at("pos_embedding.embedding"), &[32, 64]));
    }
    all.push(one("norm".to_owned(), &[WIDTH]));
    all
}

fn read(path: &Path) -> Result<(), Box<dyn Error>> {
    let file_bytes = std::fs::metadata(path)?.len();
    let weights = Weights::open(path)?;
    let opened = peak();
    let mut values = 0;
    for name in weights.names() {
        values += weights.require(name)?.to_f16_bits()?.len();
    }
    println!(
        "{} tensors, {values} values, {file_bytes} bytes; peak memory {opened} KiB when opened, {} KiB when read",
        weights.names().len(),
        peak()
    );
    Ok(())
}

/// Peak resident memory in KiB, the file's mapped pages included; 0 where the system does not tell.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse().ok()).unwrap_or(0)
}
