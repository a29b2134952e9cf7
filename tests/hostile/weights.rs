//! Safetensors files and PyTorch checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use longtake::model::config::DitConfig;
use longtake::weights::{Error, Weights};

use crate::memory;
use crate::torch_file::{Container, Stored, Tensor, write};

/// Damaged variants of each file.
const VARIANTS: usize = 400;
/// What reading all of them may add to the process. The files have some KiB each.
const MAX_GROWTH: u64 = 128 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/selfforcing/pickle")
}

/// The `SplitMix64` generator, so that a failing test fails again. Source: Steele, Lea, Flood, OOPSLA 2014, figure 16.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// One of the lengths and counts that readers stumble over.
    fn extreme(&mut self) -> [u8; 8] {
        const ALL: [u64; 6] = [0, 1 << 31, u32::MAX as u64, 1 << 40, 1 << 63, u64::MAX];
        ALL[self.below(ALL.len())].to_le_bytes()
    }
}

/// `whole` with one to four things wrong.
fn damaged(rng: &mut Rng, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        match rng.below(8) {
            _ if bytes.is_empty() => bytes.push(rng.byte()),
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.byte()),
            2 => {
                let wide = rng.extreme();
                let width = [2, 4, 8][rng.below(3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&wide[..width]);
            }
            3 => {
                let from = rng.below(bytes.len());
                let len = rng.below(64).min(bytes.len() - from);
                let part = bytes[from..from + len].to_vec();
                bytes.splice(at..at, part);
            }
            4 | 5 => bytes[at] ^= 1 << rng.below(8),
            _ => bytes[at] = rng.byte(),
        }
    }
    bytes
}

/// Reads everything that there is to read.
fn read(bytes: Vec<u8>) -> Result<(), Error> {
    let weights = Weights::from_bytes("damaged", bytes)?;
    for name in weights.names() {
        let view = weights.get(name).unwrap();
        let values: usize = view.shape().iter().product();
        assert_eq!(view.bytes().len(), values * view.dtype().bitsize() / 8);
        let _ = (view.to_f32(), view.to_f16_bits());
    }
    Ok(())
}

#[test]
fn damaged_files_are_answered_without_a_panic_or_much_memory() {
    let name = "weights::damaged_files_are_answered_without_a_panic_or_much_memory";
    memory::alone(name, read_damaged_files);
}

fn read_damaged_files() {
    let mut seeds: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "pt" || e == "safetensors")
        })
        .collect();
    seeds.sort();
    assert!(10 < seeds.len());
    let mut rng = Rng(0x5eed);
    let before = memory::peak_bytes();
    let (mut accepted, mut refused) = (0, 0);
    for seed in &seeds {
        let whole = fs::read(seed).unwrap();
        for _ in 0..VARIANTS {
            match read(damaged(&mut rng, &whole)) {
                Ok(()) => accepted += 1,
                Err(err) => {
                    let text = err.to_string();
                    assert!(text.ends_with("\"damaged\"") && text.len() < 2000, "{text}");
                    refused += 1;
                }
            }
        }
    }
    let growth = memory::peak_bytes() - before;
    assert!(growth < MAX_GROWTH, "{growth} bytes more");
    // Damage that nothing notices is in values; where everything is refused, the readers' inner parts were not reached.
    assert!(
        200 < accepted && 200 < refused,
        "{accepted} read, {refused} refused"
    );
}

#[test]
fn long_keys_named_over_and_over_cost_no_memory() {
    let name = "weights::long_keys_named_over_and_over_cost_no_memory";
    memory::alone(name, || {
        let mut key = vec![b'X'];
        key.extend((1u32 << 20).to_le_bytes());
        key.resize(key.len() + (1 << 20), b'k');
        // One key for many places of a dictionary; one key above many places of a list.
        let keys = [
            &b"}("[..],
            &key,
            b"q\x01N",
            &b"h\x01N".repeat(50_000),
            b"u.",
        ]
        .concat();
        let model = b"}X\x05\0\0\0model}(";
        let places = b"h\x02".repeat(50_000);
        let paths = [&model[..], &key, b"](}q\x02", &places, b"eus."].concat();
        let before = memory::peak_bytes();
        for object in [keys, paths] {
            let file = [
                b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02",
                object.as_slice(),
                b"\x80\x02].",
            ];
            let refusal = read(file.concat()).unwrap_err().to_string();
            assert!(refusal.len() < 2000, "{refusal}");
        }
        let growth = memory::peak_bytes() - before;
        // Copies of the keys alone would take 50 GB; allocators hold some back.
        assert!(growth < 4 * MAX_GROWTH, "{growth} bytes more");
    });
}

#[test]
fn every_cut_of_a_checkpoint_is_told() {
    for file in ["zip_basic.pt", "zip64_small.pt", "legacy_nested.pt"] {
        let whole = fs::read(folder().join(file)).unwrap();
        assert!(read(whole.clone()).is_ok(), "{file}");
        for len in 0..whole.len() {
            let text = read(whole[..len].to_vec()).expect_err(file).to_string();
            let says_what_to_do = text.contains("download");
            assert!(says_what_to_do || len < 16, "{file} cut at {len}: {text}");
        }
    }
}

#[test]
fn refusals_say_what_and_what_to_do() {
    for (file, what, to_do) in [
        ("bad_os_system.pt", "posix.system", "nothing was run"),
        (
            "bad_builtin_eval.pt",
            "__builtin__.eval",
            "take a .safetensors file",
        ),
        (
            "bad_unknown_global_unused.pt",
            "evil.module.Thing",
            "nothing was run",
        ),
        ("bad_stack_global.pt", "posix.system", "nothing was run"),
        ("bad_inst_opcode.pt", "INST (0x69)", "nothing was run"),
        ("bad_ext1.pt", "EXT1 (0x82)", "nothing was run"),
        (
            "bad_load_from_bytes.pt",
            "torch.storage._load_from_bytes",
            "nothing was run",
        ),
        ("bad_protocol9.pt", "protocol 9", "save it again"),
        ("bad_byteorder_big.pt", "big-endian", "save it again"),
        (
            "bad_deflated.pt",
            "compressed",
            "save it again with torch.save",
        ),
        (
            "bad_storage_short.pt",
            "bytes, expected",
            "download it again",
        ),
        (
            "bad_storage_missing.pt",
            "not in the file",
            "download it again",
        ),
        (
            "bad_size_over_storage.pt",
            "beyond the storage",
            "download or save",
        ),
        (
            "bad_two_data_pkl.pt",
            "2 entries called data.pkl",
            "check that it is the right file",
        ),
        (
            "bad_no_data_pkl.pt",
            "0 entries called data.pkl",
            "check that it is the right file",
        ),
        (
            "bad_top_not_dict.pt",
            "a single value",
            "check that it is the right file",
        ),
        (
            "bad_truncated_zip.pt",
            "no directory at its end",
            "download it again",
        ),
        (
            "bad_legacy_truncated.pt",
            "in the middle of a storage",
            "download it again",
        ),
        (
            "bad_deep_nesting.pt",
            "nested more than 64 deep",
            "take the file of another source",
        ),
        ("bad_text.pt", "git-lfs pointer", "git lfs pull"),
        ("bad_html.pt", "web page", "download the file itself"),
        ("bad_empty.pt", "empty", "download it again"),
    ] {
        let text = Weights::open(&folder().join(file)).unwrap_err().to_string();
        assert!(text.contains(what) && text.contains(file), "{text}");
        assert!(text.contains(to_do), "{file}: {text}");
    }
}

#[test]
fn the_part_that_is_asked_for_is_read() {
    let path = folder().join("zip_nested.pt");
    let ema = Weights::open(&path).unwrap();
    assert!(ema.get("blocks.0.self_attn.q.bias").is_some());
    assert!(ema.get("x").is_none());
    let critic = Weights::open_part(&path, &["nowhere", "critic"]).unwrap();
    assert_eq!(critic.names().collect::<Vec<_>>(), ["x"]);
    let text = Weights::open_part(&path, &["generator"])
        .unwrap_err()
        .to_string();
    assert!(text.contains("no \"generator\" or \"model\""), "{text}");
    assert!(
        text.contains("\"critic\"") && text.contains("\"generator_ema\""),
        "{text}"
    );
    // A file without parts is the network itself, whatever part is asked for.
    let flat = Weights::open_part(&folder().join("zip_basic.pt"), &["generator"]).unwrap();
    assert!(flat.get("head.modulation").is_some());
}

#[test]
fn a_training_checkpoint_of_the_network_passes_its_check() {
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/selfforcing");
    let config = fs::read_to_string(set.join("config.json")).unwrap();
    let config = DitConfig::from_selfforcing_json(&config).unwrap();
    let tensors: Vec<Tensor> = (config.tensors().into_iter().enumerate())
        .map(|(i, t)| Tensor {
            // As trainers leave them: every other name goes through a wrapper.
            name: format!("model.{}{}", ["", "_fsdp_wrapped_module."][i % 2], t.name),
            shape: t.shape,
        })
        .collect();
    let path = std::env::temp_dir().join(format!("longtake-hostile-{}.pt", std::process::id()));
    for container in [Container::Zip, Container::Stream] {
        for stored in [Stored::F32, Stored::F16, Stored::Bf16] {
            write(&path, container, Some("generator"), stored, &tensors).unwrap();
            let weights = Weights::open_part(&path, &["generator"]).unwrap();
            weights.check("tiny", &config.tensors()).unwrap();
            drop(weights);
        }
        write(
            &path,
            container,
            Some("generator"),
            Stored::F16,
            &tensors[1..],
        )
        .unwrap();
        let short = Weights::open(&path).unwrap();
        let text = short
            .check("tiny", &config.tensors())
            .unwrap_err()
            .to_string();
        assert!(text.contains("1 missing"), "{text}");
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn the_published_network_is_the_inventorys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/inventory/wan21_t2v_1.3b_generator.tsv");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    let listed: BTreeMap<String, Vec<usize>> = lines
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let shape = cells[1].split('x').map(|size| size.parse().unwrap());
            (cells[0].to_owned(), shape.collect())
        })
        .collect();
    let config = DitConfig::selfforcing_1_3b().tensors().into_iter();
    let ours: BTreeMap<String, Vec<usize>> = config.map(|t| (t.name, t.shape)).collect();
    assert_eq!(ours, listed);
}
