//! Prompts and the text encoder: a model as large as the real one, damaged files, memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use longtake::gpu::{Device, Purpose};
use longtake::ops::{WeightFormat, e4m3_decode, e4m3_encode};
use longtake::text::{
    EmbeddingCache, Error, Source, Tokenizer, Umt5, clean_prompt, embed, fix_text,
};
use longtake::weights::Weights;
use proptest::prelude::*;

use crate::support::{gpus, hash};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/selfforcing"
    ))
    .join(name)
}

fn model() -> Vec<u8> {
    std::fs::read(fixture("tokenizer/spiece.model")).unwrap()
}

fn parse(bytes: &[u8]) -> Result<Tokenizer, Error> {
    Tokenizer::parse(Path::new("some/spiece.model"), bytes)
}

fn field(number: u64, wire: u64, out: &mut Vec<u8>) {
    varint(number << 3 | wire, out);
}

fn varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn message(number: u64, body: &[u8], out: &mut Vec<u8>) {
    field(number, 2, out);
    varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

/// A piece as the format has it; kind 1 is the default and left out.
fn piece(text: &str, score: f32, kind: u64) -> Vec<u8> {
    let mut body = Vec::new();
    message(1, text.as_bytes(), &mut body);
    field(2, 5, &mut body);
    body.extend(score.to_le_bytes());
    if kind != 1 {
        field(3, 0, &mut body);
        varint(kind, &mut body);
    }
    let mut out = Vec::new();
    message(1, &body, &mut out);
    out
}

/// Settings of the trainer, and a normalizer without a map.
fn settings(numbers: &[(u64, u64)]) -> Vec<u8> {
    let (mut body, mut out) = (Vec::new(), Vec::new());
    for (number, value) in numbers {
        field(*number, 0, &mut body);
        varint(*value, &mut body);
    }
    message(2, &body, &mut out);
    message(3, &[], &mut out);
    out
}

/// Padding, end and unknown as T5 numbers them.
const T5: [(u64, u64); 3] = [(40, 2), (42, 1), (43, 0)];

fn specials() -> Vec<u8> {
    [
        piece("<pad>", 0.0, 3),
        piece("</s>", 0.0, 3),
        piece("<unk>", 0.0, 2),
    ]
    .concat()
}

/// A tiny model: these pieces behind the special ones.
fn tiny(pieces: &[(&str, f32)]) -> Tokenizer {
    let body = pieces
        .iter()
        .flat_map(|(text, score)| piece(text, *score, 1));
    let bytes: Vec<u8> = specials()
        .into_iter()
        .chain(body)
        .chain(settings(&T5))
        .collect();
    parse(&bytes).unwrap()
}

#[test]
fn the_best_sum_wins_and_unknowns_join() {
    let t = tiny(&[
        ("\u{2581}", -2.0),
        ("a", -3.0),
        ("b", -3.0),
        ("ab", -5.0),
        ("\u{2581}a", -4.5),
    ]);
    // "▁a b": -4.5 - 3; "▁ ab": -2 - 5.
    assert_eq!(t.encode("ab").unwrap(), [3, 6]);
    assert_eq!(t.encode("a").unwrap(), [7]);
    assert_eq!(t.encode("xyz").unwrap(), [3, 2]);
    assert_eq!(t.encode("xa").unwrap(), [3, 2, 4]);
    // Unknown is -5 - 10: better than nothing, worse than any pieces.
    assert_eq!(t.encode(" a  b ").unwrap(), [7, 3, 5]);
    assert!(t.encode("   ").unwrap().is_empty());
    assert_eq!(t.tokens("", 512).unwrap().ids, [1]);
    assert_eq!((t.end(), t.pad(), t.n_pieces()), (1, 0, 8));
}

/// As many pieces as UMT5's tokenizer has, against a split by another way: a table of all pieces, and every character
/// position from the end to the front.
#[test]
fn a_model_of_256_thousand_pieces_splits_as_a_plain_search_does() {
    const N: usize = 256_000;
    let letters: Vec<char> = "\u{2581}abcdefghijklmnopqrstuvwéшж中文".chars().collect();
    let pick = |seed: u64, i: usize, n: usize| (hash(seed, i as u64) % n as u64) as usize;
    let mut table: HashMap<String, (u32, f32)> = HashMap::new();
    let mut bytes = specials();
    for b in 0..=255 {
        bytes.extend(piece(&format!("<0x{b:02X}>"), 0.0, 6));
    }
    let first = 3 + 256;
    let mut i = 0;
    while table.len() < N {
        let len = 1 + pick(1, i, 6);
        let text: String = (0..len)
            .map(|j| letters[pick(2, 8 * i + j, letters.len())])
            .collect();
        let score = -2.0 - pick(3, i, 1 << 16) as f32 / 4096.0;
        i += 1;
        let id = (first + table.len()) as u32;
        table.entry(text).or_insert_with_key(|text| {
            bytes.extend(piece(text, score, 1));
            (id, score)
        });
    }
    bytes.extend(settings(&[T5[0], T5[1], T5[2], (35, 1)]));
    let t = parse(&bytes).unwrap();
    assert_eq!(t.n_pieces(), first + N);
    let least = table
        .values()
        .map(|(_, s)| *s)
        .fold(f32::INFINITY, f32::min);
    let unknown = f64::from(least) - 10.0;
    // Sums are f32 there and f64 here: up to 60 additions below 1000, each off by 3e-5 at most, mostly far less.
    for case in 0..40 {
        let len = 1 + pick(4, case, 60);
        let text: Vec<char> = (0..len)
            .map(|j| match pick(5, 64 * case + j, 40) {
                0 => '🎬',
                1 => 'z',
                n => letters[1 + n % (letters.len() - 1)],
            })
            .collect();
        let whole: Vec<char> = std::iter::once('\u{2581}')
            .chain(text.iter().copied())
            .collect();
        let mut best = vec![0.0; whole.len() + 1];
        for at in (0..whole.len()).rev() {
            let sums = (1..=6.min(whole.len() - at)).filter_map(|n| {
                let text: String = whole[at..at + n].iter().collect();
                let score = table.get(&text).map(|(_, s)| f64::from(*s));
                let score = if n == 1 {
                    score.or(Some(unknown))
                } else {
                    score
                };
                Some(score? + best[at + n])
            });
            best[at] = sums.fold(f64::NEG_INFINITY, f64::max);
        }
        let ids = t.encode(&text.iter().collect::<String>()).unwrap();
        let (mut sum, mut spelled, mut raw) = (0.0, String::new(), Vec::new());
        for id in ids {
            let text = t.piece(id).unwrap();
            match id as usize {
                3..259 => {
                    raw.push((id - 3) as u8);
                    if let Ok(c) = std::str::from_utf8(&raw) {
                        spelled.push_str(c);
                        sum += unknown;
                        raw.clear();
                    }
                }
                _ => {
                    spelled.push_str(text);
                    sum += f64::from(table[text].1);
                }
            }
        }
        assert_eq!(spelled, whole.iter().collect::<String>());
        assert!(
            (sum - best[0]).abs() < 1e-3,
            "{text:?}: {sum} instead of {}",
            best[0]
        );
    }
}

#[test]
fn other_files_are_told_apart_and_named() {
    for (bytes, says) in [
        (&b""[..], "empty"),
        (b"  {\"version\": \"1.0\"}", "tokenizer.json"),
        (b"<!DOCTYPE html>", "web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "git lfs pull",
        ),
        (b"PK\x03\x04", "zip"),
        (b"\xff\xff\xff", "damaged"),
    ] {
        let text = parse(bytes).unwrap_err().to_string();
        assert!(
            text.contains(says) && text.contains("some/spiece.model"),
            "{text}"
        );
    }
    let nothing = Tokenizer::open(Path::new("/nonexistent/spiece.model"));
    assert!(matches!(nothing, Err(Error::NotFound { .. })));
    let folder = Tokenizer::open(&std::env::temp_dir());
    assert!(matches!(folder, Err(Error::NotAModel { .. })));
    let weights = Tokenizer::open(&fixture("weights_t5.safetensors"));
    assert!(
        matches!(weights, Err(Error::NotAModel { .. })),
        "{weights:?}"
    );
}

#[test]
fn models_of_another_kind_are_refused_with_what_they_lack() {
    let pieces = [specials(), piece("a", -1.0, 1)].concat();
    for (numbers, says) in [
        (vec![(3, 2)], "not a unigram"),
        (vec![(24, 1)], "spaces behind"),
        (vec![(40, 0)], "no unknown"),
        (vec![(42, 3)], "no end"),
        (vec![(43, u64::MAX)], "no padding"),
        (vec![(35, 1)], "lacks some of the pieces"),
    ] {
        let all: Vec<_> = T5.iter().copied().chain(numbers).collect();
        let bytes = [pieces.clone(), settings(&all)].concat();
        let text = parse(&bytes).unwrap_err().to_string();
        assert!(text.contains(says), "{text}");
    }
    for (piece, says) in [
        (piece("a", -1.0, 1), "are the same"),
        (piece("", -1.0, 1), "without text"),
        (piece(&"x".repeat(1025), -1.0, 1), "1024"),
        (piece("b", f32::NAN, 1), "not finite"),
        (piece("b", 0.0, 7), "no known kind"),
    ] {
        let bytes = [pieces.clone(), piece, settings(&T5)].concat();
        let text = parse(&bytes).unwrap_err().to_string();
        assert!(text.contains(says) && text.contains("download"), "{text}");
    }
}

#[test]
fn a_prompt_beyond_all_use_is_refused() {
    let t = tiny(&[("a", -1.0)]);
    let text = t
        .encode(&"a".repeat(longtake::text::MAX_PROMPT + 1))
        .unwrap_err();
    assert!(matches!(text, Error::PromptTooLong { .. }));
    assert!(t.encode(&"a".repeat(longtake::text::MAX_PROMPT)).is_ok());
}

/// Every way to spoil a model ends in an error that names the file and says what to do, or in a model that works.
#[test]
fn damaged_models_never_panic() {
    let whole = model();
    // The character map is most of the file; what is before and behind it is spoiled as often.
    let (pieces_end, map_end) = (9_000.min(whole.len()), whole.len() - 400);
    let texts = [
        "A cat ﬁlm １２",
        "e\u{301}\u{200d}ｶﾞ ",
        "\u{2581}中文 🎬",
        "\0\u{10ffff}",
    ];
    let (mut refused, mut accepted) = (0, 0);
    for round in 0..1500u64 {
        let r = |i: u64, n: usize| (hash(round, i) % n as u64) as usize;
        let mut bytes = whole.clone();
        for i in 0..=r(0, 2) as u64 {
            let n = bytes.len();
            let at = match r(10 + 4 * i, 3) {
                0 => r(11 + 4 * i, pieces_end.min(n)),
                1 => r(11 + 4 * i, n),
                _ => (map_end + r(11 + 4 * i, 400)).min(n - 1),
            };
            let byte = r(12 + 4 * i, 256) as u8;
            // Changed in place it stays readable, so that something further in goes wrong.
            match r(13 + 4 * i, 12) {
                0..=4 => bytes[at] = byte,
                5..=8 => bytes[at] ^= 1 << (byte & 7),
                9 => bytes.insert(at, byte),
                10 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let told = |e: Error| {
            let text = e.to_string();
            let helps = ["download", "take the", "name the"]
                .iter()
                .any(|h| text.contains(h));
            assert!(text.contains("some/spiece.model") && helps, "{text}");
        };
        match parse(&bytes) {
            Err(e) => {
                refused += 1;
                told(e);
            }
            Ok(t) => {
                accepted += 1;
                for text in texts {
                    match t.tokens(text, 16) {
                        Ok(tokens) => assert!(tokens.ids.len() <= 16),
                        Err(e) => told(e),
                    }
                }
            }
        }
    }
    assert!(
        300 < refused && 300 < accepted,
        "{refused} refused, {accepted} accepted"
    );
}

/// Cut off anywhere, a model is refused: what comes last is the normalizer.
#[test]
fn half_a_model_is_refused() {
    let whole = model();
    for i in 0..300 {
        let end = (hash(9, i) % (whole.len() as u64 - 1)) as usize;
        assert!(parse(&whole[..end]).is_err(), "cut after {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn cleaned_prompts_are_single_spaced(prompt in "[ -&;#xX0-9a-zA-Z<\u{80}-\u{9f}\u{a0}\u{149}ﬁﾞ\u{2018}\u{1b}\\[\n\r\\PC]{0,60}") {
        let clean = clean_prompt(&prompt);
        let words: Vec<_> = clean.split_whitespace().collect();
        prop_assert_eq!(words.join(" "), clean);
    }

    #[test]
    fn fixing_fixed_lines_changes_nothing(prompt in "[^<\n\r\u{2028}\u{2029}\u{85}]{0,60}") {
        let fixed = fix_text(&prompt);
        // A line end that a reference stood for begins another line.
        if !fixed.contains(['\n', '<']) {
            prop_assert_eq!(fix_text(&fixed), fixed);
        }
    }
}

fn encoder() -> Weights {
    Weights::open(&fixture("weights_t5.safetensors")).unwrap()
}

/// A tensor of a safetensors file: name, dtype, shape, bytes.
type Stored = (String, &'static str, Vec<usize>, Vec<u8>);

fn safetensors(tensors: &[Stored]) -> Weights {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let (start, end) = (data.len(), data.len() + bytes.len());
        entries.push(format!(
            r#"{name:?}:{{"dtype":{dtype:?},"shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ));
        data.extend_from_slice(bytes);
    }
    let header = format!("{{{}}}", entries.join(","));
    let len = (header.len() as u64).to_le_bytes();
    Weights::from_bytes("repack", [&len, header.as_bytes(), &data].concat()).unwrap()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The fixture's encoder as transformers names it; matrices but the embedding go through `matrix`.
fn repacked(mut matrix: impl FnMut(&str, &[usize], Vec<f32>) -> Vec<Stored>) -> Vec<Stored> {
    let weights = encoder();
    let mut all = Vec::new();
    for name in weights.names() {
        let view = weights.get(name).unwrap();
        let (shape, values) = (view.shape().to_vec(), view.to_f32().unwrap());
        let theirs = match name.strip_prefix("blocks.") {
            None if name == "norm.weight" => "encoder.final_layer_norm.weight".to_owned(),
            None => "shared.weight".to_owned(),
            Some(rest) => {
                let (layer, part) = rest.split_once('.').unwrap();
                let (kind, part) = match part.strip_suffix(".weight").unwrap() {
                    "norm1" => (0, "layer_norm"),
                    "norm2" => (1, "layer_norm"),
                    "pos_embedding.embedding" => (0, "SelfAttention.relative_attention_bias"),
                    "attn.q" => (0, "SelfAttention.q"),
                    "attn.k" => (0, "SelfAttention.k"),
                    "attn.v" => (0, "SelfAttention.v"),
                    "attn.o" => (0, "SelfAttention.o"),
                    "ffn.gate.0" => (1, "DenseReluDense.wi_0"),
                    "ffn.fc1" => (1, "DenseReluDense.wi_1"),
                    "ffn.fc2" => (1, "DenseReluDense.wo"),
                    other => panic!("{other}"),
                };
                format!("encoder.block.{layer}.layer.{kind}.{part}.weight")
            }
        };
        let is_matrix = theirs.contains(".SelfAttention.") || theirs.contains(".DenseReluDense.");
        match is_matrix && !theirs.contains("relative") {
            true => all.extend(matrix(&theirs, &shape, values)),
            false => all.push((theirs, "F32", shape, bytes_of(&values))),
        }
    }
    all
}

fn encoded(weights: &Weights) -> Vec<f32> {
    let umt5 = Umt5::new(weights, WeightFormat::F32).unwrap();
    let ids = [3, 7, 11, 2, 9, 1];
    umt5.encode(&Device::twin(), &ids, ids.len(), None).unwrap()
}

fn plain(name: &str, shape: &[usize], values: Vec<f32>) -> Vec<Stored> {
    vec![(name.to_owned(), "F32", shape.to_vec(), bytes_of(&values))]
}

#[test]
fn a_repack_under_other_names_is_the_same_encoder_and_brings_its_tokenizer() {
    let mut tensors = repacked(plain);
    let spiece = model();
    tensors.push(("spiece_model".into(), "U8", vec![spiece.len()], spiece));
    let weights = safetensors(&tensors);
    assert_eq!(encoded(&weights), encoded(&encoder()));
    let own = Tokenizer::open(&fixture("tokenizer/spiece.model")).unwrap();
    let within = Tokenizer::within(&weights).unwrap().unwrap();
    let prompt = "a red fox, café";
    assert_eq!(within.encode(prompt).unwrap(), own.encode(prompt).unwrap());
    assert!(Tokenizer::within(&encoder()).is_none());

    let lost = tensors.iter().position(|t| t.0.ends_with(".wo.weight"));
    tensors.remove(lost.unwrap());
    let short = safetensors(&tensors);
    let text = Umt5::new(&short, WeightFormat::F32)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("DenseReluDense.wo") && text.contains("repack"),
        "{text}"
    );
}

#[test]
fn weights_of_8_bits_are_read_with_their_scale() {
    let scale = 1.0 / 64.0;
    let bits =
        |values: &[f32]| -> Vec<u8> { values.iter().map(|v| e4m3_encode(*v / scale)).collect() };
    let scaled = |name: &str, shape: &[usize], values: Vec<f32>| -> Vec<Stored> {
        let stem = name.strip_suffix(".weight").unwrap();
        vec![
            (name.to_owned(), "F8_E4M3", shape.to_vec(), bits(&values)),
            (
                format!("{stem}.scale_weight"),
                "F32",
                vec![],
                bytes_of(&[scale]),
            ),
        ]
    };
    let mut tensors = repacked(scaled);
    tensors.push(("scaled_fp8".into(), "F8_E4M3", vec![0], Vec::new()));
    let same = repacked(|name, shape, values| {
        let values = bits(&values).into_iter().map(|b| e4m3_decode(b) * scale);
        plain(name, shape, values.collect())
    });
    let coarse = encoded(&safetensors(&tensors));
    assert_eq!(coarse, encoded(&safetensors(&same)));
    assert_ne!(coarse, encoded(&encoder()));

    // Not one number, and a format that is not read.
    let at =
        |tensors: &[Stored], end: &str| tensors.iter().position(|t| t.0.ends_with(end)).unwrap();
    let mut two = tensors.clone();
    let i = at(&two, ".q.scale_weight");
    (two[i].2, two[i].3) = (vec![2], bytes_of(&[scale, scale]));
    let weights = safetensors(&two);
    let umt5 = Umt5::new(&weights, WeightFormat::F32).unwrap();
    let text = umt5
        .encode(&Device::twin(), &[1], 1, None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("one number") && text.contains("repack"),
        "{text}"
    );
    let mut other = tensors;
    let i = at(&other, ".q.weight");
    other[i].1 = "F8_E5M2";
    let text = Umt5::new(&safetensors(&other), WeightFormat::F32)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("F8_E5M2") && text.contains("repack"),
        "{text}"
    );
}

#[test]
fn a_token_of_another_model_is_refused() {
    let weights = encoder();
    let umt5 = Umt5::new(&weights, WeightFormat::F32).unwrap();
    let vocab = umt5.config().vocab as u32;
    let e = umt5
        .encode(&Device::twin(), &[1, vocab], 2, None)
        .unwrap_err();
    let text = e.to_string();
    assert!(
        text.contains("weights_t5") && text.contains("different models"),
        "{text}"
    );
}

#[test]
fn other_weights_are_no_encoder() {
    let weights = Weights::open(&fixture("weights_dit.safetensors")).unwrap();
    let text = Umt5::new(&weights, WeightFormat::F32)
        .unwrap_err()
        .to_string();
    assert!(text.contains("weights_dit"), "{text}");
}

/// One part of one layer is on the device at a time, and what is planned for it is what the ledger sees.
#[test]
fn an_encoding_takes_what_is_planned_and_leaves_nothing() {
    let weights = encoder();
    let ids: Vec<u32> = (0..40).map(|i| i % 7 + 2).collect();
    let twin = Device::twin();
    let devices = gpus().iter().map(|g| &g.device).chain([&twin]);
    for tested in devices {
        for (format, largest) in [
            (WeightFormat::F32, u64::MAX),
            (WeightFormat::F16, u64::MAX),
            (WeightFormat::F32, 4096),
        ] {
            // A device of its own: the ledger's peaks are since it was opened.
            let device = match tested.caps().backend.as_str() {
                "host" => Device::twin(),
                _ => Device::open(&longtake::gpu::Select {
                    device: None,
                    tier: match tested.caps().tier {
                        longtake::gpu::Tier::Portable => longtake::gpu::TierRequest::Portable,
                        longtake::gpu::Tier::Subgroups => longtake::gpu::TierRequest::Best,
                    },
                })
                .unwrap(),
            };
            let umt5 = Umt5::new(&weights, format)
                .unwrap()
                .with_largest_buffer(largest);
            umt5.encode(&device, &ids, ids.len(), None).unwrap();
            let (plan, ledger) = (umt5.bytes(device.caps(), ids.len()), device.ledger());
            let case = format!("{} {format:?} {largest}", device.caps().title());
            assert_eq!(ledger.peak_of(Purpose::Weights), plan.weights, "{case}");
            assert_eq!(
                ledger.peak_of(Purpose::Activations),
                plan.activations,
                "{case}"
            );
            let left = [Purpose::Weights, Purpose::Activations].map(|p| ledger.bytes(p));
            assert_eq!(left, [0, 0], "{case}");
            let all: usize = weights
                .names()
                .map(|n| weights.get(n).unwrap().bytes().len() * 2)
                .sum();
            assert!(
                plan.weights < all as u64 / 2,
                "{case}: all of it is on the device"
            );
        }
    }
}

/// The encoder's file is opened for a prompt once.
#[test]
fn a_prompt_is_encoded_once() {
    let folder = std::env::temp_dir().join(format!("longtake-it-embed-{}", std::process::id()));
    let cache = EmbeddingCache::new(&folder);
    let tokenizer = Tokenizer::open(&fixture("tokenizer/spiece.model")).unwrap();
    let device = Device::twin();
    let dim = Umt5::new(&encoder(), WeightFormat::F32)
        .unwrap()
        .config()
        .dim;
    let source = |prompt| {
        let (mut source, lost) = Source::new("tiny", &tokenizer, prompt, 12).unwrap();
        // The fixtures' encoder knows fewer tokens than their tokenizer makes.
        source.ids.iter_mut().for_each(|id| *id %= 160);
        (source, lost)
    };
    let encode = |prompt, open: fn() -> Result<Weights, Error>| {
        embed(
            &device,
            source(prompt),
            (dim, 12),
            Some(&cache),
            open,
            WeightFormat::F32,
        )
    };
    let gone = || {
        Err(Error::NotFound {
            path: "gone".into(),
        })
    };
    assert!(encode("the cat", gone).is_err());
    let first = encode("the  cat", || Ok(encoder())).unwrap();
    assert!(!first.cached && first.lost == 0);
    let again = encode(" the cat", gone).unwrap();
    assert!(again.cached);
    assert_eq!(again.embeddings, first.embeddings);
    let long = encode("the cat on the grass at golden hour", || Ok(encoder())).unwrap();
    assert!(long.lost > 0 && long.embeddings.n_tokens() == 12);
    std::fs::remove_dir_all(&folder).unwrap();
}
