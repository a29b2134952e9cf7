//! Keys and values in files, by the real binary: a film's dump, what codecs make of it, packed spans there and back, and
//! files that are refused.

use std::fs;
use std::path::Path;

use longtake::ops::{e4m3_decode, e4m3_encode};
use longtake::weights::{Dtype, Weights};
use serde_json::Value;

use super::{Scratch, device, json};
use crate::support::values;

/// (name, dtype, shape, bytes).
type Tensor = (String, String, Vec<usize>, Vec<u8>);

/// A tensor of f32 values.
fn reals(name: &str, shape: &[usize], of: impl Fn(usize) -> f32) -> Tensor {
    let bytes = (0..shape.iter().product()).flat_map(|i| of(i).to_le_bytes());
    (name.into(), "F32".into(), shape.to_vec(), bytes.collect())
}

/// A tensor of values that look random.
fn random(name: &str, shape: &[usize]) -> Tensor {
    let seed = name.bytes().map(u64::from).sum();
    let v = values(seed, shape.iter().product());
    reals(name, shape, |i| v[i])
}

/// Writes a safetensors file by hand, so that it may also be wrong.
fn file(path: &Path, metadata: Value, tensors: &[Tensor]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    header.insert("__metadata__".into(), metadata);
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        header.insert(name.clone(), entry);
        data.extend(bytes);
    }
    let text = Value::Object(header).to_string();
    let head = (text.len() as u64).to_le_bytes();
    fs::write(path, [&head, text.as_bytes(), &data].concat()).unwrap();
}

fn plain(scratch: &Scratch, name: &str, tensors: &[Tensor]) {
    file(&scratch.path(name), serde_json::json!({}), tensors);
}

/// A setting's figures without the time it took.
fn figures(all: &Value, at: usize) -> Value {
    let mut setting = all["settings"][at].clone();
    let layers = setting["layers"].as_array_mut().unwrap();
    layers.iter_mut().for_each(|l| l["encode_ms"] = Value::Null);
    setting["encode_ms"] = Value::Null;
    setting
}

#[test]
fn a_films_dump_is_measured_exported_and_read_back() {
    let scratch = Scratch::new();
    let line = "--given 3 --frames 2 --seed 5 -o a.mp4 --no-metadata --dump-kv a.safetensors";
    let outcome = scratch.generate(line);
    assert!(
        outcome.err.contains("5 latent frames in 6 layers"),
        "{}",
        outcome.err
    );
    assert_eq!(outcome.ok(), "a.mp4\n");

    let dump = Weights::open(&scratch.path("a.safetensors")).unwrap();
    assert_eq!(dump.names().len(), 18);
    let m = dump.metadata();
    for (key, value) in [
        ("kind", "kv-dump"),
        ("layout", "thd"),
        ("model", "rooms"),
        ("seed", "5"),
        ("cache", "f16"),
        ("frames", "0-4"),
        ("query_frames", "4"),
    ] {
        assert_eq!(m[key], value, "{key}");
    }
    let (k, q) = (
        dump.require("layers.5.k").unwrap(),
        dump.require("layers.5.q").unwrap(),
    );
    let [tokens, heads, d] = *k.shape() else {
        panic!("{k:?}")
    };
    assert_eq!((k.dtype(), q.dtype()), (Dtype::F16, Dtype::F32));
    assert_eq!(q.shape(), [tokens / 5, heads, d]);
    assert!(k.to_f32().unwrap().iter().any(|v| *v != 0.0));

    let run = |line: &str| {
        scratch.run(&format!(
            "kv --device {} --layers 1,4 --json {line}",
            device()
        ))
    };
    let made = json(&run("a.safetensors --kv qvg-int2 --export p.safetensors").ok());
    assert_eq!(
        (&made["turned"], &made["layout_by"]),
        (&true.into(), &"metadata".into())
    );
    assert_eq!(made["queries"]["are"], "queries");
    let setting = figures(&made, 0);
    assert_eq!(setting["layers"].as_array().unwrap().len(), 2);
    let error = |path: &str| setting.pointer(path).unwrap().as_f64().unwrap();
    for path in [
        "/k/relative_error",
        "/v/relative_error",
        "/attention/0/relative_error",
    ] {
        assert!((0.001..0.9).contains(&error(path)), "{path}: {setting}");
    }
    // Two layers of two tensors; the centroid tables of so short a span weigh most.
    assert_eq!(error("/k/half_bytes"), (2 * 2 * tokens * heads * d) as f64);
    assert_eq!(error("/k/bytes/centroids"), (2 * heads * 8 * d * 2) as f64);
    assert!(made["settings"][0]["encode_ms"].as_f64() > Some(0.0));

    let packed = Weights::open(&scratch.path("p.safetensors")).unwrap();
    assert_eq!(packed.metadata()["extensions"], "");
    let codes = packed.require("layers.4.span0.v.packed").unwrap();
    assert_eq!(codes.shape(), [1, heads, tokens, d / 4]);
    let read = json(&run("p.safetensors --original a.safetensors").ok());
    assert_eq!(figures(&read, 0), setting);
    // Without the dump there are bytes and no errors.
    let bare = json(&run("p.safetensors").ok());
    assert_eq!(
        bare["settings"][0]["k"]["total_bytes"],
        setting["k"]["total_bytes"]
    );
    assert!(bare["settings"][0]["k"]["relative_error"].is_null());

    // Another dump is no original.
    let other = "--given 2 --frames 1 --seed 5 -o b.mp4 --no-metadata --dump-kv b.safetensors";
    scratch.generate(other).ok();
    let err = run("p.safetensors --original b.safetensors").refused(2);
    assert!(err.contains("another dump"), "{err}");
}

#[test]
fn a_coded_cache_is_dumped_as_attention_reads_it() {
    let scratch = Scratch::new();
    let line = "--given 4 --frames 1 --kv qvg-int2 --kv-span 2 --device cpu --json -o a.mp4 --dump-kv d.safetensors";
    let out = scratch.run(&format!("generate {line}")).ok();
    let dumped = out.lines().map(json).find(|e| e["event"] == "dumped_kv");
    let dumped = dumped.unwrap_or_else(|| panic!("{out}"));
    assert_eq!(
        (&dumped["frames"], &dumped["query_frames"]),
        (&5.into(), &1.into())
    );
    let coded = dumped["decoded_frames"].as_u64().unwrap();
    let dump = Weights::open(&scratch.path("d.safetensors")).unwrap();
    assert!(
        coded > 0 && dump.metadata().contains_key("decoded_frames"),
        "{dumped}"
    );
    assert_eq!(dump.require("layers.0.k").unwrap().dtype(), Dtype::F32);
    let line = "kv d.safetensors --kv rtn-int4 --layers 0 --device cpu";
    let outcome = scratch.run(line);
    assert!(
        outcome.err.contains("coding them again says little"),
        "{}",
        outcome.err
    );
    assert!(outcome.ok().contains("rtn-int4"));
}

#[test]
fn dumps_go_where_nothing_is() {
    let scratch = Scratch::new();
    fs::write(scratch.path("mine"), "mine").unwrap();
    let err = scratch.run("generate --frames 1 --dump-kv mine").refused(2);
    assert!(
        err.contains("--dump-kv") && err.contains("--overwrite"),
        "{err}"
    );
    let err = scratch.run("generate --frames 1 --dump-kv no/d").refused(2);
    assert!(err.contains("there is no folder"), "{err}");
    let err = scratch
        .run("generate --frames 1 -o a.mp4 --dump-kv a.mp4")
        .refused(2);
    assert!(err.contains("one file"), "{err}");
    plain(
        &scratch,
        "ok",
        &[random("k", &[9, 2, 32]), random("v", &[9, 2, 32])],
    );
    let line = "kv ok --kv qvg-int2 --device cpu --export mine";
    assert!(scratch.run(line).refused(2).contains("--overwrite"));
    assert!(
        scratch
            .run("kv ok --export new")
            .refused(2)
            .contains("--kv qvg-int2")
    );
    assert_eq!(fs::read(scratch.path("mine")).unwrap(), b"mine");
    scratch.run(&format!("{line} -y -q")).ok();
    assert!(Weights::open(&scratch.path("mine")).is_ok());
    assert_eq!(scratch.names(), ["mine", "ok"]);
}

/// What the released layout says of one tensor of a span, by METHOD 4.1 and 5.2, from its bytes alone.
struct Released<'a> {
    packed: &'a [u8],
    scales: &'a [u8],
    ids: &'a [u8],
    centroids: Vec<f32>,
    d: usize,
    tokens: usize,
    block: usize,
    bits: usize,
}

impl Released<'_> {
    /// The centroid that was taken from a row, counted over heads and tokens.
    fn centroid(&self, row: usize) -> &[f32] {
        let n = self.centroids.len() / self.d / (self.ids.len() / self.tokens);
        let at = row / self.tokens * n + usize::from(self.ids[row]);
        &self.centroids[at * self.d..][..self.d]
    }

    fn code(&self, row: usize, channel: usize) -> u8 {
        let at = (row * self.d + channel) * self.bits;
        let byte = self.packed[at / 8];
        byte >> (8 - self.bits - at % 8) & ((1 << self.bits) - 1)
    }

    fn most(&self) -> f32 {
        (1 << (self.bits - 1)) as f32 - 1.0
    }

    fn scale(&self, row: usize, channel: usize) -> u8 {
        self.scales[row * self.d / self.block + channel / self.block]
    }

    fn decode(&self, row: usize, channel: usize) -> f32 {
        let level = f32::from(self.code(row, channel)) - self.most();
        level * e4m3_decode(self.scale(row, channel)) + self.centroid(row)[channel]
    }

    /// Scale and codes of the block that begins at a channel, from what is left of the row.
    fn quantized(&self, x: &[f32], row: usize, channel: usize) -> (u8, Vec<u8>) {
        let rest: Vec<f32> = (channel..channel + self.block)
            .map(|ch| x[row * self.d + ch] - self.centroid(row)[ch])
            .collect();
        let most = rest.iter().fold(0f32, |m, r| m.max(r.abs()));
        let scale = e4m3_encode((most / self.most()).max(1e-10));
        let by = e4m3_decode(scale);
        let code = |r: &f32| match by {
            // Where there is no step, the sign decides which end it is; both decode to 0.
            0.0 => {
                if *r > 0.0 {
                    2.0 * self.most()
                } else {
                    0.0
                }
            }
            _ => (r / by).round().clamp(-self.most(), self.most()) + self.most(),
        };
        (scale, rest.iter().map(|r| code(r) as u8).collect())
    }
}

#[test]
fn exported_spans_are_the_released_layout_byte_by_byte() {
    let scratch = Scratch::new();
    let sets = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/codec");
    for (set, bits, block) in [
        ("qvg_clustered_d64", 2, 64),
        ("qvg_edge_d64", 4, 32),
        ("qvg_gauss_d128", 2, 64),
    ] {
        let config = json(&fs::read_to_string(format!("{sets}/{set}/config.json")).unwrap());
        let [h, s, d, c] = ["H", "S", "D", "C"].map(|k| config[k].as_u64().unwrap() as usize);
        let golden = Weights::open(Path::new(&format!("{sets}/{set}/data.safetensors"))).unwrap();
        let x = golden.require("x").unwrap().to_f32().unwrap();
        let x = &x[..h * s * d];
        let tensors = ["k", "v"].map(|name| reals(name, &[h, s, d], |i| x[i]));
        plain(&scratch, set, &tensors);
        let line = format!(
            "kv {set} --layout htd --kv qvg-int{bits}:block={block}:centroids={c} --device cpu --json --export {set}.p"
        );
        let figures = json(&scratch.run(&line).ok());
        let file = Weights::open(&scratch.path(format!("{set}.p"))).unwrap();
        assert_eq!(file.metadata()["extensions"], "", "{set}");
        let part = |part: &str| file.require(&format!("layers.0.span0.k.{part}")).unwrap();
        assert_eq!(part("packed").shape(), [1, h, s, d * bits / 8]);
        assert_eq!(part("scales").shape(), [1, h, s, d / block]);
        assert_eq!(part("ids.0").shape(), [1, h, s]);
        assert_eq!(part("centroids.0").shape(), [1, h, c, d]);
        assert_eq!(part("centroids.0").dtype(), Dtype::BF16);
        let r = Released {
            packed: part("packed").bytes(),
            scales: part("scales").bytes(),
            ids: part("ids.0").bytes(),
            centroids: part("centroids.0").to_f32().unwrap(),
            d,
            tokens: s,
            block,
            bits,
        };
        let (mut error, mut truth) = (0f64, 0f64);
        for row in 0..h * s {
            for first in (0..d).step_by(block) {
                let (scale, codes) = r.quantized(x, row, first);
                assert_eq!(
                    r.scale(row, first),
                    scale,
                    "{set}: scale of row {row} from {first}"
                );
                let got: Vec<u8> = (first..first + block).map(|ch| r.code(row, ch)).collect();
                assert_eq!(got, codes, "{set}: codes of row {row} from {first}");
            }
            for ch in 0..d {
                let want = f64::from(x[row * d + ch]);
                error += (f64::from(r.decode(row, ch)) - want).powi(2);
                truth += want * want;
            }
        }
        let said = figures["settings"][0]["k"]["relative_error"]
            .as_f64()
            .unwrap();
        let want = (error / truth).sqrt();
        assert!(
            (said - want).abs() <= 1e-6 * want,
            "{set}: {said} for {want}"
        );
    }
}

#[test]
fn layouts_are_told_or_guessed_aloud() {
    let scratch = Scratch::new();
    let by_token = values(1, 13 * 2 * 32);
    let swapped = |i: usize| by_token[(i / 32 % 13) * 64 + (i / 32 / 13) * 32 + i % 32];
    let of = |name, shape: &[usize], f: &dyn Fn(usize) -> f32| reals(name, shape, f);
    let thd = |name| of(name, &[13, 2, 32], &|i| by_token[i]);
    let htd = |name| of(name, &[2, 13, 32], &swapped);
    plain(&scratch, "thd", &[thd("x.key"), thd("x.value")]);
    plain(
        &scratch,
        "htd",
        &[htd("a/keys"), htd("a/values"), random("scale", &[2])],
    );
    plain(
        &scratch,
        "queries",
        &[thd("k"), thd("v"), random("q", &[3, 2, 32])],
    );
    plain(
        &scratch,
        "square",
        &[random("k", &[8, 8, 32]), random("v", &[8, 8, 32])],
    );
    let run = |line: &str| scratch.run(&format!("kv {line} --kv int2 --device cpu --json"));
    let (a, b) = (run("thd"), run("htd"));
    for (outcome, axes) in [(&a, "tokens, heads"), (&b, "heads, tokens")] {
        assert!(
            outcome.err.contains("warning: ") && outcome.err.contains(axes),
            "{}",
            outcome.err
        );
    }
    let (a, b) = (json(&a.ok()), json(&b.ok()));
    assert_eq!(
        (&a["layout"], &a["layout_by"]),
        (&"thd".into(), &"guess".into())
    );
    assert_eq!(b["unused"], serde_json::json!(["scale"]));
    assert_eq!(a["queries"]["are"], "newest_keys");
    assert_eq!(figures(&a, 0), figures(&b, 0), "one tensor in two layouts");
    let asked = run("thd --layout thd");
    assert!(!asked.err.contains("warning"), "{}", asked.err);
    assert_eq!(figures(&json(&asked.ok()), 0), figures(&a, 0));
    let queries = json(&run("queries").ok());
    assert_eq!(
        (&queries["layout_by"], &queries["queries"]["n"]),
        (&"queries".into(), &3.into())
    );
    assert!(run("square").refused(2).contains("--layout"));
    run("square --layout htd").ok();
}

#[test]
fn odd_sizes_and_values_are_coded() {
    let scratch = Scratch::new();
    let pair = |shape: &[usize], k: &dyn Fn(usize) -> f32, v: &dyn Fn(usize) -> f32| {
        [reals("k", shape, k), reals("v", shape, v)]
    };
    plain(
        &scratch,
        "one",
        &[random("k", &[1, 2, 64]), random("v", &[1, 2, 64])],
    );
    plain(
        &scratch,
        "constant",
        &pair(&[13, 2, 32], &|_| 0.75, &|_| 0.0),
    );
    plain(
        &scratch,
        "large",
        &pair(&[13, 2, 32], &|i| (i % 97) as f32 * 3e3, &|i| {
            (i % 31) as f32 * 1e30
        }),
    );
    for d in [32, 64, 128, 256] {
        plain(
            &scratch,
            &format!("d{d}"),
            &[random("k", &[7, 2, d]), random("v", &[7, 2, d])],
        );
    }
    let run = |line: &str| scratch.run(&format!("kv {line} --layout thd --device cpu --json"));
    let all = json(&run("one").ok());
    assert_eq!(
        all["settings"].as_array().unwrap().len(),
        longtake::codec::NAMES.len()
    );
    let exact = json(&run("constant").ok());
    for setting in exact["settings"].as_array().unwrap() {
        assert_eq!(setting["v"]["relative_error"], 0.0, "{setting}");
        assert!(
            setting["k"]["relative_error"].as_f64() < Some(0.2),
            "{setting}"
        );
    }
    let large = run("large --kv qvg-int2,int8");
    assert!(
        large.err.contains("448") && large.err.contains("guard"),
        "{}",
        large.err
    );
    let large = json(&large.ok());
    let error = |i: usize| {
        large["settings"][i]["v"]["relative_error"]
            .as_f64()
            .unwrap()
    };
    assert!(
        error(0) > 0.5 && error(1) < 0.05,
        "the guard of int8 holds: {large}"
    );
    for d in [32, 64, 128, 256] {
        // The last span is shorter than the others, and no multiple of anything.
        let kv = json(
            &run(&format!(
                "d{d} --kv int2,kivi-int2,qvg-pro --span 5 --corrections"
            ))
            .ok(),
        );
        let attended: Vec<usize> = (0..3)
            .map(|i| kv["settings"][i]["attention"].as_array().unwrap().len())
            .collect();
        assert_eq!(attended, [2, 1, 2], "corrections by setting: {kv}");
    }
    let pair = json(&run("d64 --kv int2/off").ok());
    assert!(
        pair["settings"][0]["v"]["relative_error"].as_f64() < Some(1e-3),
        "{pair}"
    );
}

#[test]
fn files_that_hold_no_keys_and_values_are_refused_by_name() {
    let scratch = Scratch::new();
    let s = [13, 2, 64];
    let bad = |at: usize, value: f32| move |i: usize| if i == at { value } else { 0.5 };
    // Token 7, head 1, channel 5.
    let at = 7 * 128 + 64 + 5;
    let i32s = ("k".into(), "I32".into(), s.to_vec(), vec![0; 4 * 13 * 128]);
    let cases: Vec<(&str, Vec<Tensor>, &[&str])> = vec![
        (
            "nan",
            vec![
                reals("layers.3.k", &s, bad(at, f32::NAN)),
                random("layers.3.v", &s),
            ],
            &[
                "NaN",
                "layer 3",
                "head 1",
                "token 7",
                "channel 5",
                "layers.3.k",
            ],
        ),
        (
            "inf",
            vec![
                random("layers.3.k", &s),
                reals("layers.3.v", &s, bad(at, f32::NEG_INFINITY)),
            ],
            &["-inf", "layer 3", "head 1", "token 7", "layers.3.v"],
        ),
        (
            "nan in q",
            vec![
                random("k", &s),
                random("v", &s),
                reals("q", &[2, 2, 64], bad(70, f32::NAN)),
            ],
            &["NaN", "head 1", "token 0", "\"q\""],
        ),
        (
            "zero",
            vec![random("k", &[0, 2, 64]), random("v", &[0, 2, 64])],
            &["[0, 2, 64]", "nothing to code"],
        ),
        ("dtype", vec![i32s, random("v", &s)], &["I32", "\"k\""]),
        (
            "rank",
            vec![random("k", &[13, 128]), random("v", &[13, 128])],
            &["[13, 128]", "head_dim"],
        ),
        (
            "batch",
            vec![random("k", &[2, 2, 13, 64]), random("v", &[2, 2, 13, 64])],
            &["batch of 1", "\"k\""],
        ),
        (
            "shapes",
            vec![random("k", &s), random("v", &[12, 2, 64])],
            &["[13, 2, 64]", "[12, 2, 64]"],
        ),
        (
            "width",
            vec![random("k", &[13, 2, 40]), random("v", &[13, 2, 40])],
            &["40 channels", "256 can"],
        ),
        ("lacks v", vec![random("b.1.k", &s)], &["b.1.k", "b.1.v"]),
        (
            "lacks all",
            vec![random("weight", &s)],
            &["weight", "values"],
        ),
        (
            "heads of q",
            vec![random("k", &s), random("v", &s), random("q", &[3, 4, 64])],
            &["4 heads", "\"q\""],
        ),
    ];
    for (name, tensors, says) in &cases {
        plain(&scratch, "bad", tensors);
        let err = scratch.run("kv bad --device cpu --kv int2").refused(2);
        for part in *says {
            assert!(err.contains(part), "{name}: {part}: {err}");
        }
        assert!(err.contains("\"bad\"") || *name == "width", "{name}: {err}");
    }
    let ok = [random("k", &s), random("v", &s)];
    for (metadata, says) in [
        (serde_json::json!({ "grid": "0x3" }), "grid"),
        (serde_json::json!({ "grid": "2x3" }), "theta"),
        (serde_json::json!({ "layout": "dht" }), "dht"),
        (
            serde_json::json!({ "grid": "1x1", "theta": "1e4", "rope_pairs": "12,10,10", "frames": "0-6" }),
            "13 tokens",
        ),
        (
            serde_json::json!({ "grid": "1x1", "theta": "1e4", "rope_pairs": "8,4,4", "frames": "0-12" }),
            "32 channels",
        ),
    ] {
        file(&scratch.path("bad"), metadata, &ok);
        let err = scratch.run("kv bad --device cpu --kv int2").refused(2);
        assert!(err.contains(says) && err.contains("bad"), "{says}: {err}");
    }
    fs::write(scratch.path("bad"), "neither keys nor values").unwrap();
    assert!(scratch.run("kv bad").refused(2).contains("no"));
    fs::write(scratch.path("bad"), "").unwrap();
    assert!(scratch.run("kv bad").refused(2).contains("empty"));
    assert!(scratch.run("kv nowhere").refused(2).contains("nowhere"));
    scratch.run("kv .").refused(2);
    plain(&scratch, "ok", &ok);
    for (line, says) in [
        ("ok --kv q9", "there is no"),
        ("ok --kv f16", "neither"),
        ("ok --kv int2,int2", "twice"),
        ("ok --kv qvg-int2:block=8", "blocks of 8"),
        ("ok --kv int2:fine=99", "there are layers 0 to"),
        (
            "ok --kv int2:fine=0 --export p.safetensors",
            "of one coding",
        ),
        ("ok --layers 4", "no layer 4"),
        ("ok --layers x", "0,3-5"),
        ("ok --span 0", "whole number"),
        ("ok --queries 0", "whole number"),
        ("ok --original ok", "--export"),
        ("ok --device nonesuch", "nonesuch"),
    ] {
        let err = scratch.run(&format!("kv {line}")).refused(2);
        assert!(err.contains(says), "{line}: {err}");
    }
}

#[test]
fn packed_files_that_are_damaged_are_refused_by_name() {
    let scratch = Scratch::new();
    plain(
        &scratch,
        "d",
        &[random("k", &[9, 2, 32]), random("v", &[9, 2, 32])],
    );
    let export = |kv: &str| {
        scratch
            .run(&format!("kv d --kv {kv} --device cpu --export p -y -q"))
            .ok()
    };
    export("qvg-int2");
    let whole = Weights::open(&scratch.path("p")).unwrap();
    let change = |says: &str, with: &dyn Fn(&mut Value, &mut Vec<Tensor>)| {
        let mut metadata = serde_json::to_value(whole.metadata()).unwrap();
        let tensor = |name: &str| -> Tensor {
            let v = whole.require(name).unwrap();
            let dtype = v.dtype().to_string();
            (name.into(), dtype, v.shape().to_vec(), v.bytes().to_vec())
        };
        let mut tensors: Vec<Tensor> = whole.names().map(tensor).collect();
        with(&mut metadata, &mut tensors);
        file(&scratch.path("bad"), metadata, &tensors);
        let err = scratch.run("kv bad --device cpu --original d").refused(2);
        assert!(err.contains(says), "{says}: {err}");
    };
    let find = |t: &[Tensor], name: &str| t.iter().position(|t| t.0.ends_with(name)).unwrap();
    change("k.scales", &|_, t| t.retain(|t| !t.0.ends_with("k.scales")));
    change("is no finite number", &|_, t| {
        let at = find(t, "v.scales");
        t[at].3[3] = 0x7f;
    });
    change("beyond the 8 centroids", &|_, t| {
        let at = find(t, "k.ids.0");
        t[at].3[3] = 200;
    });
    change("k.packed", &|_, t| {
        let at = find(t, "k.packed");
        t[at].2 = vec![2, 9, 8];
    });
    change("span", &|_, t| {
        t.iter_mut()
            .for_each(|t| t.0 = t.0.replace("span0", "span1"))
    });
    change("coding_k", &|m, _| m["coding_k"] = "{}".into());
    change("stages", &|m, _| {
        let text = m["coding_k"]
            .as_str()
            .unwrap()
            .replace("\"stages\":1", "\"stages\":9");
        m["coding_k"] = text.into();
    });
    change("mass_correction", &|m, _| {
        m["mass_correction"] = "much".into()
    });
    let err = scratch.run("kv p --original d --kv int2").refused(2);
    assert!(err.contains("--original"), "{err}");
    let err = scratch.run("kv p --kv int2").refused(2);
    assert!(err.contains("coded already"), "{err}");
    assert!(
        scratch
            .run("kv p --layers 7")
            .refused(2)
            .contains("--layers")
    );
}
