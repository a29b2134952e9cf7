//! Checkpoints of published size with zeros for values, to see what reading them costs:
//!
//! ```sh
//! cargo run --release --example synthetic_checkpoint -- write generator f32 zip /scratch/generator.pt
//! cargo run --release --example synthetic_checkpoint -- write text bf16 stream /scratch/text.pth
//! cargo run --release --example synthetic_checkpoint -- read /scratch/generator.pt
//! ```
//!
//! Files have holes where the file system knows holes; elsewhere they take 2.8 to 11.4 GB. `read` takes every tensor in blocks
//! of rows, one after the other, as the program's loaders do, and prints the peak of this process's memory.

#[path = "../tests/hostile/torch_file.rs"]
mod torch_file;

use std::error::Error;
use std::path::Path;

use longtake::model::config::DitConfig;
use longtake::text::Umt5Config;
use longtake::weights::Weights;
use torch_file::{Container, Stored, Tensor, write};

/// Values of a block: the largest matrix of the network.
const BLOCK: usize = 8960 * 1536;

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

/// The text encoder UMT5-XXL, under its own names.
fn text() -> Vec<Tensor> {
    let tensors = Umt5Config::xxl().tensors().into_iter();
    let named = |t: longtake::weights::Expected| Tensor {
        name: t.name,
        shape: t.shape,
    };
    tensors.map(named).collect()
}

fn read(path: &Path) -> Result<(), Box<dyn Error>> {
    let file_bytes = std::fs::metadata(path)?.len();
    let weights = Weights::open(path)?;
    let opened = peak();
    let mut values = 0;
    for name in weights.names() {
        let view = weights.require(name)?;
        let n = view.shape()[0];
        let width = view.shape()[1..].iter().product::<usize>().max(1);
        let block = (BLOCK / width).max(1);
        for first in (0..n).step_by(block) {
            values += view.rows_to_f32(first..n.min(first + block))?.len();
        }
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
