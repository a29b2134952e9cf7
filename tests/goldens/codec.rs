//! KV codecs against their goldens: every folder of `codec`, by the kind its `config.json` names; all sizes are the set's.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use longtake::cache::{Policy, Residency, Window};
use longtake::gpu::{Device, Purpose};
use longtake::ops::{
    Attention, Axis, BiasFix, Cluster, Coding, Exported, FramePlace, Grid, KvFormat, MAX_ROUNDS,
    Positions, Quantize, RopeSplit, Rows, ScaleFormat, Segment, SpanLayout, SpanPlace, attention,
    centroid_count, e4m3_decode, e4m3_encode, hadamard_rows, kmeans, kmeans_assign, quantize,
    residual, turns,
};
use serde_json::Value;

use super::file::{Golden, Set, say};

/// One folder: its configuration, its tensors, and which of them a check has looked at.
pub struct Codec {
    pub name: String,
    pub config: Value,
    golden: Golden,
    seen: RefCell<BTreeSet<String>>,
}

impl Codec {
    pub fn size(&self, key: &str) -> usize {
        number(&self.config, key)
    }

    pub fn has(&self, name: &str) -> bool {
        self.golden.0.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name).shape.clone()
    }

    fn tensor(&self, name: &str) -> &super::file::Tensor {
        self.seen.borrow_mut().insert(name.to_owned());
        let found = self.golden.0.get(name);
        found.unwrap_or_else(|| panic!("{} lacks {name}", self.name))
    }

    pub fn reals(&self, name: &str) -> Vec<f32> {
        self.tensor(name).reals()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.tensor(name).ints().iter().map(|v| *v as u8).collect()
    }

    pub fn ints(&self, name: &str) -> Vec<i64> {
        self.tensor(name).ints()
    }

    fn finish(self) {
        let seen = self.seen.into_inner();
        let left: Vec<_> = self
            .golden
            .0
            .keys()
            .filter(|n| !seen.contains(*n))
            .collect();
        assert!(left.is_empty(), "{}: no check looks at {left:?}", self.name);
    }

    /// Equal, element by element.
    pub fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, got: &[T], want: &[T]) {
        assert_eq!(got.len(), want.len(), "{}: length of {what}", self.name);
        let bad = got.iter().zip(want).filter(|(a, b)| a != b).count();
        let first = got.iter().zip(want).position(|(a, b)| a != b);
        assert_eq!(
            bad,
            0,
            "{}: {what}: {bad} of {} differ, the first at {first:?}: {:?} for {:?}",
            self.name,
            got.len(),
            first.map(|i| &got[i]),
            first.map(|i| &want[i])
        );
    }

    /// Within `abs + rel * |want|`.
    pub fn close(&self, what: &str, got: &[f32], want: &[f32], abs: f64, rel: f64) {
        assert_eq!(got.len(), want.len(), "{}: length of {what}", self.name);
        let over = |(g, w): (&f32, &f32)| {
            let off = (f64::from(*g) - f64::from(*w)).abs();
            off / (abs + rel * f64::from(w.abs())).max(f64::MIN_POSITIVE)
        };
        let worst = got.iter().zip(want).map(over).fold(0.0, f64::max);
        assert!(
            worst <= 1.0,
            "{}: {what} is off by {worst:.2} tolerances",
            self.name
        );
    }
}

pub fn number(v: &Value, key: &str) -> usize {
    v[key].as_u64().unwrap_or_else(|| panic!("{key} in {v}")) as usize
}

/// Every set of a kind, each given to `check`.
pub fn each(kind: &str, check: impl Fn(&Codec)) {
    let Some(root) = Set::find("codec") else {
        return;
    };
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root.folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.join("config.json").is_file())
        .collect();
    folders.sort();
    let mut found = 0;
    for folder in folders {
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        if config["kind"] != kind {
            continue;
        }
        found += 1;
        let data = folder.join("data.safetensors");
        let set = Codec {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            config,
            golden: match data.is_file() {
                true => Golden::read(&data),
                false => Golden(Default::default()),
            },
            seen: RefCell::default(),
        };
        check(&set);
        set.finish();
    }
    match found {
        0 => say(&format!("codec: absent: sets of kind {kind}")),
        n => say(&format!("codec: {kind}: {n} sets")),
    }
}

pub fn cases(v: &Value) -> &Vec<Value> {
    v["cases"].as_array().unwrap()
}

pub fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_else(|| panic!("{key} in {v}"))
}

/// The released stored form of a case.
pub fn released(c: &Value) -> Coding {
    Coding {
        bits: number(c, "bits") as u32,
        grid: match c["asym"].as_bool() {
            Some(true) => Grid::Asymmetric,
            _ => Grid::Symmetric,
        },
        block: number(c, "block"),
        stages: c["stages"].as_u64().unwrap_or(0) as usize,
        ..Coding::HALVES
    }
}

/// Runs recorded work on rows and a span, and reads both back.
struct Run<'d> {
    device: &'d Device,
    x: longtake::gpu::Buffer<f32>,
    span: longtake::gpu::Buffer<u32>,
    scratch: longtake::gpu::Buffer<f32>,
    layout: SpanLayout,
}

impl<'d> Run<'d> {
    fn new(device: &'d Device, layout: SpanLayout, x: &[f32], words: &[u32]) -> Run<'d> {
        let upload = |v: &[f32]| device.upload(Purpose::Scratch, "rows", v).unwrap();
        Run {
            device,
            x: upload(x),
            span: device.upload(Purpose::Spans, "span", words).unwrap(),
            scratch: upload(&vec![0.0; x.len()]),
            layout,
        }
    }

    fn place(&self) -> SpanPlace<'_> {
        SpanPlace {
            words: &self.span,
            base: 0,
            layout: self.layout,
        }
    }

    fn quantize(&self, clip: f32) {
        let mut rec = self.device.recorder();
        quantize(
            &mut rec,
            &Quantize {
                x: &self.x,
                first_head: 0,
                n_heads: self.layout.n_heads,
                span: self.place(),
                clip,
                err: &self.scratch,
            },
        );
        self.device.run(rec).unwrap();
    }

    fn words(&self) -> Vec<u32> {
        self.device.read_all(&self.span).unwrap()
    }

    fn rows(&self) -> Vec<f32> {
        self.device.read_all(&self.x).unwrap()
    }

    /// All rows of the span, `[head, token, channel]`.
    fn decoded(&self, words: &[u32]) -> Vec<f32> {
        decoded(&self.layout, words)
    }

    /// Runs `f` with k-means' lists for one stage.
    fn cluster(&self, stage: usize, bf16: bool, cents: &[f32], rounds: Rounds) -> Clustered {
        let d = self.device;
        let l = &self.layout;
        let cents = d.upload(Purpose::Scratch, "centroids", cents).unwrap();
        let zeros = |n| d.zeros::<u32>(Purpose::Scratch, "lists", n).unwrap();
        let order = zeros(l.n_heads * l.tokens);
        let ranges = zeros(2 * l.n_heads * l.n_centroids);
        let changed = zeros(MAX_ROUNDS + 1);
        let a = Cluster {
            x: &self.x,
            first_head: 0,
            n_heads: l.n_heads,
            span: self.place(),
            stage,
            cents: &cents,
            order: &order,
            ranges: &ranges,
            changed: &changed,
            bf16,
        };
        let mut rec = d.recorder();
        match rounds {
            Rounds::Assign => kmeans_assign(&mut rec, &a, 1, 0),
            Rounds::Subtract => residual(&mut rec, &a),
            Rounds::All(n, tol) => kmeans(&mut rec, &a, n, tol),
        }
        d.run(rec).unwrap();
        Clustered {
            cents: d.read_all(&cents).unwrap(),
            changed: d.read_all(&changed).unwrap(),
            ids: l.export(&self.words()).ids.swap_remove(stage),
        }
    }
}

enum Rounds {
    Assign,
    Subtract,
    All(usize, f64),
}

struct Clustered {
    cents: Vec<f32>,
    changed: Vec<u32>,
    ids: Vec<u8>,
}

pub fn decoded(l: &SpanLayout, words: &[u32]) -> Vec<f32> {
    let mut out = Vec::new();
    for head in 0..l.n_heads {
        (0..l.tokens).for_each(|t| out.extend(l.row(words, head, t)));
    }
    out
}

fn bf16_bits(v: &[f32]) -> Vec<u16> {
    v.iter().map(|v| (v.to_bits() >> 16) as u16).collect()
}

/// Least and second least squared distance, relative to the row's own square.
fn margin(x: &[f32], cents: &[f32], d: usize) -> f64 {
    let mut all: Vec<f64> = cents
        .chunks_exact(d)
        .map(|c| {
            x.iter()
                .zip(c)
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum()
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let own: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
    all.get(1)
        .map_or(f64::INFINITY, |s| (s - all[0]) / (own + 1e-30))
}

pub fn qvg(set: &Codec, device: &Device) {
    let [b, h, s, d, n] = ["B", "H", "S", "D", "C"].map(|k| set.size(k));
    let bf16 = text(&set.config, "work_dtype") == "bf16";
    let x = set.reals("x");
    let stages = set.size("stages_max");
    let cents: Vec<_> = (0..stages)
        .map(|t| set.reals(&format!("centroids.{t}")))
        .collect();
    let ids: Vec<_> = (0..stages)
        .map(|t| set.bytes(&format!("ids.{t}")))
        .collect();
    for c in cases(&set.config) {
        let name = text(c, "name");
        let coding = released(c);
        let l = SpanLayout::new(coding, h, d, s, n);
        let bytes = l.bytes();
        for (key, got) in [
            ("codes", bytes.codes),
            ("scales", bytes.scales),
            ("ids", bytes.ids),
            ("centroids", bytes.centroids),
        ] {
            let want = number(&c["bytes"], key);
            assert_eq!(
                got as usize * b,
                want,
                "{}: {name}: bytes of {key}",
                set.name
            );
        }
        let (rows, tables) = (h * s, h * n * d);
        let of =
            |v: &[u8], batch: usize| v[batch * v.len() / b..(batch + 1) * v.len() / b].to_vec();
        let packed = set.bytes(&format!("{name}.packed"));
        let scales = set.bytes(&format!("{name}.scales"));
        let zeros = match coding.grid.has_zero() {
            true => set.bytes(&format!("{name}.zeros")),
            false => Vec::new(),
        };
        let recon = set.reals(&format!("{name}.recon"));
        for batch in 0..b {
            let given = Exported {
                codes: of(&packed, batch),
                scales: of(&scales, batch),
                zeros: of(&zeros, batch),
                ids: ids[..coding.stages].iter().map(|i| of(i, batch)).collect(),
                centroids: cents[..coding.stages]
                    .iter()
                    .map(|c| bf16_bits(&c[batch * tables..(batch + 1) * tables]))
                    .collect(),
            };
            let mut bare = given.clone();
            bare.codes.fill(0);
            bare.scales.fill(0);
            bare.zeros.fill(0);
            let x = &x[batch * rows * d..(batch + 1) * rows * d];
            let run = Run::new(device, l, x, &l.import(&bare));
            for (t, cents) in cents.iter().enumerate().take(coding.stages) {
                let table = &cents[batch * tables..(batch + 1) * tables];
                let before = run.rows();
                let found = run.cluster(t, bf16, table, Rounds::Assign).ids;
                let want = &given.ids[t];
                for (i, row) in before.chunks_exact(d).enumerate() {
                    let head = i / s;
                    let near = margin(row, &table[head * n * d..(head + 1) * n * d], d) < 1e-5;
                    assert!(
                        near || found[i] == want[i],
                        "{}: id of row {i} at stage {t}",
                        set.name
                    );
                }
                // Where two centroids are as near, the set's choice counts from here on.
                device.write(&run.span, 0, &l.import(&bare));
                run.cluster(t, bf16, table, Rounds::Subtract);
            }
            run.quantize(1.0);
            let got = l.export(&run.words());
            let what = |part: &str| format!("{name}.{part} of batch {batch}");
            set.same(&what("packed"), &got.codes, &given.codes);
            set.same(&what("scales"), &got.scales, &given.scales);
            set.same(&what("zeros"), &got.zeros, &given.zeros);
            set.same(&what("centroids"), &got.centroids, &given.centroids);
            let part = &recon[batch * rows * d..(batch + 1) * rows * d];
            set.close(
                &what("recon"),
                &decoded(&l, &l.import(&given)),
                part,
                1e-6,
                1e-6,
            );
        }
    }
    // Stages that no case uses are inputs too.
    (0..stages).for_each(|t| _ = set.shape(&format!("ids.{t}")));
}

pub fn e4m3(set: &Codec, device: &Device) {
    let want = set.reals("decode");
    for (byte, want) in want.iter().enumerate() {
        let got = e4m3_decode(byte as u8);
        assert!(got == *want || got.is_nan() && want.is_nan(), "byte {byte}");
    }
    let got: Vec<u8> = set
        .reals("encode_in")
        .iter()
        .map(|v| e4m3_encode(*v))
        .collect();
    set.same("encode_out", &got, &set.bytes("encode_out"));
    let ranges = set.reals("range_in");
    for n in set.config["divisors"].as_array().unwrap() {
        let n = n.as_u64().unwrap();
        let (bits, grid) = match n {
            1 => (2, Grid::Symmetric),
            7 => (4, Grid::Symmetric),
            3 => (2, Grid::Asymmetric),
            15 => (4, Grid::Asymmetric),
            other => panic!("no grid divides by {other}"),
        };
        // A block of zeros but for one element has this largest magnitude, and this range.
        let (d, block) = (32, 16);
        let mut x = vec![0f32; ranges.len() * d];
        ranges
            .iter()
            .enumerate()
            .for_each(|(i, r)| x[i * d + 5] = *r);
        let coding = Coding {
            bits,
            grid,
            block,
            ..Coding::HALVES
        };
        let l = SpanLayout::new(coding, 1, d, ranges.len(), 8);
        let run = Run::new(device, l, &x, &vec![0; l.words]);
        run.quantize(1.0);
        let scales = l.export(&run.words()).scales;
        let got: Vec<u8> = scales.iter().step_by(2).copied().collect();
        set.same(
            &format!("scale_div{n}"),
            &got,
            &set.bytes(&format!("scale_div{n}")),
        );
    }
}

pub fn assign(set: &Codec, device: &Device) {
    for c in cases(&set.config) {
        let name = text(c, "name");
        let [h, s, n, d] = ["N", "S", "C", "D"].map(|k| number(c, k));
        let l = SpanLayout::new(stage(d), h, d, s, n);
        let run = Run::new(
            device,
            l,
            &set.reals(&format!("{name}.x")),
            &vec![0; l.words],
        );
        let cents = set.reals(&format!("{name}.centroids"));
        let got = run.cluster(0, false, &cents, Rounds::Assign).ids;
        let want = set.ints(&format!("{name}.ids"));
        let margin = set.reals(&format!("{name}.margin"));
        for i in 0..want.len() {
            let must = margin[i] > 1e-5 || margin[i] == 0.0;
            assert!(
                !must || i64::from(got[i]) == want[i],
                "{}: {name}: id {i} is {}, not {}",
                set.name,
                got[i],
                want[i]
            );
        }
    }
}

/// A coding with one stage, for clustering alone.
fn stage(d: usize) -> Coding {
    Coding {
        bits: 2,
        block: d.min(64),
        stages: 1,
        ..Coding::HALVES
    }
}

pub fn kmeans_sets(set: &Codec, device: &Device) {
    let shape = set.shape("x");
    let (h, s, d) = (shape[0], shape[1], shape[2]);
    let x = set.reals("x");
    let bf16 = text(&set.config, "work_dtype") == "bf16";
    for c in cases(&set.config) {
        let (name, init) = (text(c, "name"), text(c, "init"));
        let n = set.shape(init)[1];
        let l = SpanLayout::new(stage(d), h, d, s, n);
        let run = Run::new(device, l, &x, &vec![0; l.words]);
        let (rounds, tol) = (number(c, "max_iters"), c["tol"].as_f64().unwrap());
        assert!(rounds <= MAX_ROUNDS, "{}: {rounds} rounds", set.name);
        let got = run.cluster(0, bf16, &set.reals(init), Rounds::All(rounds, tol));
        let limit = (tol * (h * s) as f64).ceil() as u32;
        let stop = (2..=rounds).find(|r| got.changed[*r] < limit);
        assert_eq!(
            stop.unwrap_or(rounds),
            number(c, "iterations"),
            "{}: {name}: rounds",
            set.name
        );
        let ids: Vec<i64> = got.ids.iter().map(|v| i64::from(*v)).collect();
        set.same(
            &format!("{name}.ids"),
            &ids,
            &set.ints(&format!("{name}.ids")),
        );
        let mut counts = vec![0i64; h * n];
        for (i, id) in ids.iter().enumerate() {
            counts[i / s * n + *id as usize] += 1;
        }
        set.same(
            &format!("{name}.counts"),
            &counts,
            &set.ints(&format!("{name}.counts")),
        );
        let (abs, rel) = if bf16 { (1e-5, 8e-3) } else { (1e-5, 1e-5) };
        let want = set.reals(&format!("{name}.centroids"));
        set.close(&format!("{name}.centroids"), &got.cents, &want, abs, rel);
    }
    // Starts that no case takes are inputs too.
    for init in ["init", "init_far", "init_dup"] {
        if set.has(init) {
            set.shape(init);
        }
    }
}

pub fn bytes(set: &Codec, _: &Device) {
    for c in cases(&set.config) {
        let [s, h, d, n] = ["S", "H", "D", "C"].map(|k| number(c, k));
        let coding = Coding {
            stages: number(c, "T"),
            ..released(c)
        };
        let l = SpanLayout::new(coding, h, d, s, n);
        let b = l.bytes();
        let got = [
            b.codes,
            b.scales,
            b.ids,
            b.centroids,
            b.total() - b.padding,
            l.half_bytes(),
        ];
        let keys = ["codes", "scales", "ids", "centroids", "total", "bf16"];
        let want = keys.map(|k| number(&c["bytes"], k) as u64);
        assert_eq!(got, want, "{}: {}", set.name, c["name"]);
    }
}

/// Codes of a case as one byte each, `[head, token, channel]` of every batch entry, with what their spans decode to.
struct Coded {
    codes: Vec<u8>,
    words: Vec<Vec<u32>>,
    recon: Vec<f32>,
    layout: SpanLayout,
}

fn code(device: &Device, coding: Coding, shape: &[usize], x: &[f32], clip: f32) -> Coded {
    let [b, h, s, d] = [shape[0], shape[1], shape[2], shape[3]];
    let layout = SpanLayout::new(coding, h, d, s, 8);
    let (mut codes, mut words, mut recon) = (Vec::new(), Vec::new(), Vec::new());
    for part in x.chunks_exact(x.len() / b) {
        let run = Run::new(device, layout, part, &vec![0; layout.words]);
        if coding.hadamard {
            let mut rec = device.recorder();
            hadamard_rows(&mut rec, &run.x, h * s, d);
            device.run(rec).unwrap();
        }
        run.quantize(clip);
        let w = run.words();
        recon.extend(run.decoded(&w));
        let packed = layout.export_codes(&w);
        let per_byte = 8 / coding.bits as usize;
        for byte in packed {
            for i in 0..per_byte {
                let shift = 8 - coding.bits as usize * (i + 1);
                codes.push(byte >> shift & ((1u16 << coding.bits) - 1) as u8);
            }
        }
        words.push(w);
    }
    Coded {
        codes,
        words,
        recon,
        layout,
    }
}

pub fn rtn(set: &Codec, device: &Device) {
    let (x, shape) = (set.reals("x"), set.shape("x"));
    for c in cases(&set.config) {
        let name = text(c, "name");
        let coding = Coding {
            grid: Grid::Rtn,
            ..released(c)
        };
        let got = code(device, coding, &shape, &x, 1.0);
        set.same(
            &format!("{name}.codes"),
            &got.codes,
            &set.bytes(&format!("{name}.codes")),
        );
        let scales: Vec<f32> = got
            .words
            .iter()
            .flat_map(|w| got.layout.export(w).scales)
            .map(e4m3_decode)
            .collect();
        set.same(
            &format!("{name}.scale"),
            &scales,
            &set.reals(&format!("{name}.scale")),
        );
        let want = set.reals(&format!("{name}.recon"));
        set.close(&format!("{name}.recon"), &got.recon, &want, 1e-9, 1e-6);
    }
}

/// Codes equal, but for those one level off where the value lies on a rounding tie as near as f32 can tell.
fn near_ties(set: &Codec, what: &str, got: &Coded, x: &[f32], want: &[u8]) {
    let l = &got.layout;
    let d = l.head_dim;
    for i in (0..want.len()).filter(|i| got.codes[*i] != want[*i]) {
        let (row, ch) = (i / d, i % d);
        let (batch, head, t) = (
            row / l.tokens / l.n_heads,
            row / l.tokens % l.n_heads,
            row % l.tokens,
        );
        let decoded = l.row(&got.words[batch], head, t)[ch];
        // Half a step above or below what it was coded to.
        let half = f64::from((decoded - x[i]).abs());
        let step = 2.0 * half;
        let off = (i32::from(got.codes[i]) - i32::from(want[i])).abs();
        let other = f64::from(x[i]) + f64::from(x[i] - decoded);
        let is_tie = off == 1 && step > 0.0 && other.is_finite();
        let pair = l.export_pairs(&got.words[batch]);
        let scales = pair.iter().map(|p| f64::from(p.0));
        let fits = scales.into_iter().any(|s| (s - step).abs() <= 1e-4 * s);
        assert!(
            is_tie && fits,
            "{}: {what}: code {i} is {}, not {}",
            set.name,
            got.codes[i],
            want[i]
        );
    }
}

/// A part of rows `[batch, head, token, channel]`: the tokens before `n`.
fn first_tokens(x: &[f32], shape: &[usize], n: usize) -> Vec<f32> {
    x.chunks_exact(shape[2] * shape[3])
        .flat_map(|head| &head[..n * shape[3]])
        .copied()
        .collect()
}

pub fn kivi(set: &Codec, device: &Device) {
    for c in cases(&set.config) {
        let name = text(c, "name");
        let (group, rest) = (number(c, "group"), number(c, "residual"));
        for (tensor, axis) in [("k", Axis::Channel), ("v", Axis::Token)] {
            let (x, shape) = (set.reals(tensor), set.shape(tensor));
            let s = shape[2];
            let n = match axis {
                Axis::Channel if s >= rest => s - s % rest,
                Axis::Channel => 0,
                Axis::Token => s.saturating_sub(rest),
            };
            let want = |part: &str| format!("{name}.{tensor}_{part}");
            let hat = set.reals(&want("hat"));
            let (codes, scale, min) = (
                set.bytes(&want("codes")),
                set.reals(&want("scale")),
                set.reals(&want("min")),
            );
            assert_eq!(
                codes.len(),
                shape[0] * shape[1] * n * shape[3],
                "{name}: {tensor}"
            );
            if n == 0 {
                set.close(&want("hat"), &x, &hat, 1e-5, 1e-5);
                continue;
            }
            let coding = Coding {
                bits: number(c, "bits") as u32,
                grid: Grid::MinMax,
                axis,
                block: group,
                scales: ScaleFormat::F16,
                ..Coding::HALVES
            };
            let part = [shape[0], shape[1], n, shape[3]];
            let got = code(device, coding, &part, &first_tokens(&x, &shape, n), 1.0);
            near_ties(
                set,
                &want("codes"),
                &got,
                &first_tokens(&x, &shape, n),
                &codes,
            );
            let pairs: Vec<(f32, f32)> = got
                .words
                .iter()
                .flat_map(|w| got.layout.export_pairs(w))
                .collect();
            let (s16, m16): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            set.same(&want("scale"), &s16, &scale);
            set.same(&want("min"), &m16, &min);
            let mut mine = x.clone();
            let rows = mine.chunks_exact_mut(s * shape[3]);
            for (head, coded) in rows.zip(got.recon.chunks_exact(n * shape[3])) {
                head[..coded.len()].copy_from_slice(coded);
            }
            set.close(&want("hat"), &mine, &hat, 1e-5, 1e-5);
        }
    }
}

pub fn quarot(set: &Codec, device: &Device) {
    let (x, shape) = (set.reals("x"), set.shape("x"));
    let d = shape[3];
    let rows = x.len() / d;
    let rotated = device.upload(Purpose::Scratch, "rows", &x).unwrap();
    let mut rec = device.recorder();
    hadamard_rows(&mut rec, &rotated, rows, d);
    device.run(rec).unwrap();
    let rotated = device.read_all(&rotated).unwrap();
    let by_row = |what: &str, got: &[f32], want: &[f32]| {
        for (g, w) in got.chunks_exact(d).zip(want.chunks_exact(d)) {
            let most = w.iter().fold(0f32, |m, v| m.max(v.abs()));
            set.close(what, g, w, 1e-5 * f64::from(most).max(1e-30), 0.0);
        }
    };
    by_row("rotated", &rotated, &set.reals("rotated"));
    for c in cases(&set.config) {
        let name = text(c, "name");
        let clip = c["clip"].as_f64().unwrap_or(1.0) as f32;
        let sym = c["sym"].as_bool().unwrap();
        let coding = Coding {
            bits: number(c, "bits") as u32,
            grid: if sym { Grid::Wide } else { Grid::ZeroPoint },
            block: number(c, "group"),
            scales: ScaleFormat::F32,
            hadamard: true,
            ..Coding::HALVES
        };
        let got = code(device, coding, &shape, &x, clip);
        let pairs: Vec<(f32, f32)> = got
            .words
            .iter()
            .flat_map(|w| got.layout.export_pairs(w))
            .collect();
        let (scale, zero): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let want = set.reals(&format!("{name}.scale"));
        set.close(&format!("{name}.scale"), &scale, &want, 0.0, 1e-5);
        set.same(
            &format!("{name}.zero"),
            &zero,
            &set.reals(&format!("{name}.zero")),
        );
        let want = set.bytes(&format!("{name}.codes"));
        for i in 0..want.len() {
            // A rotation in floats may fall on the other side of a tie.
            let t = f64::from(rotated[i]) / f64::from(scale[i / coding.block]);
            let is_tie = (t - t.floor() - 0.5).abs() < 1e-5 * t.abs().max(1.0);
            assert!(
                got.codes[i] == want[i] || is_tie,
                "{}: {name}: code {i} is {}, not {}",
                set.name,
                got.codes[i],
                want[i]
            );
        }
        if got.codes == want {
            by_row(
                &format!("{name}.recon"),
                &got.recon,
                &set.reals(&format!("{name}.recon")),
            );
        } else {
            set.shape(&format!("{name}.recon"));
        }
    }
}

pub fn dual(set: &Codec, device: &Device) {
    let (x, shape) = (set.reals("x"), set.shape("x"));
    for c in cases(&set.config) {
        let name = text(c, "name");
        let coding = Coding {
            grid: Grid::Dual,
            ..released(c)
        };
        let got = code(device, coding, &shape, &x, 1.0);
        let sse = |y: &[f32]| -> f64 {
            y.iter()
                .zip(&x)
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum()
        };
        let want = c["sse"].as_f64().unwrap();
        let mine = sse(&got.recon);
        assert!(
            mine <= 1.0001 * want,
            "{}: {name}: {mine} for {want}",
            set.name
        );
        let given = Exported {
            codes: set.bytes(&format!("{name}.packed")),
            scales: set.bytes(&format!("{name}.scales")),
            ..Exported::default()
        };
        let b = shape[0];
        let recon: Vec<f32> = (0..b)
            .flat_map(|i| {
                let of = |v: &[u8]| v[i * v.len() / b..(i + 1) * v.len() / b].to_vec();
                let part = Exported {
                    codes: of(&given.codes),
                    scales: of(&given.scales),
                    ..Exported::default()
                };
                decoded(&got.layout, &got.layout.import(&part))
            })
            .collect();
        set.same(
            &format!("{name}.recon"),
            &recon,
            &set.reals(&format!("{name}.recon")),
        );
    }
    for pair in set.config["centroid_count"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let at = |i: usize| pair[i].as_u64().unwrap() as usize;
        assert_eq!(
            centroid_count(at(0)),
            at(1),
            "centroids of {} tokens",
            at(0)
        );
    }
}

fn ranges(v: &Value) -> Vec<[i64; 2]> {
    let pair = |r: &Value| [r[0].as_i64().unwrap(), r[1].as_i64().unwrap()];
    v.as_array().unwrap().iter().map(pair).collect()
}

/// Frames as ranges that are joined where they touch.
fn joined(frames: impl Iterator<Item = i64>) -> Vec<[i64; 2]> {
    let mut out: Vec<[i64; 2]> = Vec::new();
    for f in frames {
        match out.last_mut() {
            Some(last) if last[1] == f => last[1] = f + 1,
            _ => out.push([f, f + 1]),
        }
    }
    out
}

pub fn policy(set: &Codec, _: &Device) {
    for p in set.config["policies"].as_array().unwrap() {
        let chunk = number(p, "frames_per_chunk");
        let window = Some(number(p, "window_frames")).filter(|w| *w > 0);
        let rules = Policy {
            window: Window {
                frames: window,
                sink: if window.is_some() {
                    number(p, "sink_frames")
                } else {
                    0
                },
            },
            span_chunks: number(p, "quant_factor"),
            recent_chunks: number(p, "keep_recent_chunks"),
            // The authors keep a sink exact only inside a window.
            exact_sink: window.map_or(0, |_| number(p, "sink_keep_chunks") * chunk),
            ..Policy::default()
        };
        let mut r = Residency::default();
        for step in p["trace"].as_array().unwrap() {
            let c = number(step, "chunk") as i64;
            let frames = c * chunk as i64..(c + 1) * chunk as i64;
            let done = r.begin(&rules, frames).unwrap();
            let pairs =
                |s: &[std::ops::Range<i64>]| s.iter().map(|r| [r.start, r.end]).collect::<Vec<_>>();
            let what = |part: &str| format!("{}: {part} of chunk {c}", p["name"]);
            set.same(
                &what("quantize"),
                &pairs(&done.code),
                &ranges(&step["quantize"]),
            );
            set.same(&what("spans"), &pairs(r.spans()), &ranges(&step["spans"]));
            set.same(&what("exact"), &joined(r.exact()), &ranges(&step["exact"]));
            let mut seen: Vec<i64> = r
                .spans()
                .iter()
                .cloned()
                .flatten()
                .chain(r.exact())
                .collect();
            seen.retain(|f| r.is_attended(&rules, *f));
            seen.sort_unstable();
            set.same(
                &what("attend"),
                &joined(seen.into_iter()),
                &ranges(&step["attend"]),
            );
        }
    }
}

/// `[head, token, channel]` to `[token, head, channel]`.
fn by_token(x: &[f32], h: usize, d: usize) -> Vec<f32> {
    let tokens = x.len() / h / d;
    let row = |t: usize, head: usize| &x[(head * tokens + t) * d..][..d];
    (0..tokens)
        .flat_map(|t| (0..h).flat_map(move |head| row(t, head).iter().copied()))
        .collect()
}

pub fn attention_sets(set: &Codec, device: &Device) {
    let [b, h, d, rows, cols] = ["B", "H", "D", "grid_h", "grid_w"].map(|k| set.size(k));
    let theta = set.config["theta"].as_f64().unwrap();
    let split = RopeSplit::wan(d);
    let per_frame = rows * cols;
    let frames = |key: &str| -> Vec<i64> {
        let list = set.config[key].as_array().unwrap();
        list.iter().map(|f| f.as_i64().unwrap()).collect()
    };
    let (key_frames, query_frames) = (frames("key_frames"), frames("query_frames"));
    let (q, tail_k, tail_v) = (set.reals("q"), set.reals("tail.k"), set.reals("tail.v"));
    let table = |places: &[FramePlace]| {
        let mut t = Positions::new(device, split, theta, rows, cols).unwrap();
        t.set_places(device, places);
        t
    };
    let upload = |words: &[u32]| device.upload(Purpose::Spans, "page", words).unwrap();
    let part = |v: &[f32], i: usize| v[i * v.len() / b..(i + 1) * v.len() / b].to_vec();
    for batch in 0..b {
        // Spans one page each, head tables holding the given gains; then the exact tail in f32.
        let mut pages = Vec::new();
        let mut first_frame = 0;
        for (i, c) in set.config["spans"].as_array().unwrap().iter().enumerate() {
            let n_tokens = number(c, "S");
            let gains = set.reals(&format!("span{i}.k.energy_gain"));
            let tensor = |w: &str| {
                let coding = Coding {
                    head_table: w == "k",
                    ..released(c)
                };
                let name = |part: &str| format!("span{i}.{w}.{part}");
                let of = |v: Vec<u8>| v[batch * v.len() / b..(batch + 1) * v.len() / b].to_vec();
                let stages = 0..coding.stages;
                let given = Exported {
                    codes: of(set.bytes(&name("packed"))),
                    scales: of(set.bytes(&name("scales"))),
                    zeros: match coding.grid.has_zero() {
                        true => of(set.bytes(&name("zeros"))),
                        false => Vec::new(),
                    },
                    ids: stages
                        .clone()
                        .map(|t| of(set.bytes(&name(&format!("ids.{t}")))))
                        .collect(),
                    centroids: stages
                        .map(|t| {
                            bf16_bits(&part(&set.reals(&name(&format!("centroids.{t}"))), batch))
                        })
                        .collect(),
                };
                let l = SpanLayout::new(coding, h, d, n_tokens, number(c, "C"));
                let mut words = l.import(&given);
                if w == "k" {
                    let n = coding.gains(d);
                    for (at, g) in part(&gains, batch).iter().enumerate() {
                        words[l.heads_at + at / n * (1 + n) + 1 + at % n] = g.to_bits();
                    }
                }
                (l, upload(&words))
            };
            let (k, v) = (tensor("k"), tensor("v"));
            let places: Vec<FramePlace> = (0..n_tokens / per_frame)
                .map(|f| FramePlace {
                    frame: key_frames[first_frame + f],
                    slot: 0,
                    row: (f * per_frame) as u32,
                })
                .collect();
            first_frame += places.len();
            pages.push((k, v, table(&places)));
        }
        let tail = [&tail_k, &tail_v].map(|t| {
            let rows = by_token(&part(t, batch), h, d);
            upload(&KvFormat::F32.pack(&rows))
        });
        let tail_places: Vec<FramePlace> = key_frames[first_frame..]
            .iter()
            .enumerate()
            .map(|(slot, frame)| FramePlace {
                frame: *frame,
                slot: slot as u32,
                row: 0,
            })
            .collect();
        let tail_table = table(&tail_places);
        let mut queries = by_token(&part(&q, batch), h, d);
        let n_queries = queries.len() / h / d;
        turn_queries(&mut queries, &query_frames, (rows, cols), split, theta, h);
        let q = device
            .upload(Purpose::Activations, "queries", &queries)
            .unwrap();
        for (bias, name) in [
            (BiasFix::Off, "none"),
            (BiasFix::Step, "step"),
            (BiasFix::Energy, "energy"),
        ] {
            let mut segments: Vec<Segment<'_>> = pages
                .iter()
                .map(|((lk, k), (lv, v), positions)| Segment {
                    k,
                    v,
                    rows: Rows::Coded {
                        k: *lk,
                        v: *lv,
                        bias,
                    },
                    positions,
                    rope: true,
                    tokens_per_frame: per_frame,
                })
                .collect();
            segments.push(Segment {
                k: &tail[0],
                v: &tail[1],
                rows: Rows::Plain(KvFormat::F32),
                positions: &tail_table,
                rope: true,
                tokens_per_frame: per_frame,
            });
            let zeros = |n| device.zeros::<f32>(Purpose::Activations, "out", n).unwrap();
            let (out, state) = (zeros(n_queries * h * d), zeros(n_queries * h * 2));
            let mut rec = device.recorder();
            attention(
                &mut rec,
                &Attention {
                    q: &q,
                    q_stride: h * d,
                    n_queries,
                    n_heads: h,
                    segments: &segments,
                    out: &out,
                    state: &state,
                },
            );
            device.run(rec).unwrap();
            let got = device.read_all(&out).unwrap();
            let lse: Vec<f32> = device
                .read_all(&state)
                .unwrap()
                .chunks_exact(2)
                .map(|s| s[0] + s[1].ln())
                .collect();
            let want = by_token(&part(&set.reals(&format!("out_{name}")), batch), h, d);
            set.close(&format!("out_{name}"), &got, &want, 2e-5, 2e-5);
            let want = by_token(&part(&set.reals(&format!("lse_{name}")), batch), h, 1);
            set.close(&format!("lse_{name}"), &lse, &want, 2e-5, 2e-5);
        }
    }
    // For figures of error only.
    set.shape("out_exact");
    set.shape("lse_exact");
}

/// Turns queries `[token, head, channel]` by their places.
fn turn_queries(
    q: &mut [f32],
    frames: &[i64],
    (rows, cols): (usize, usize),
    split: RopeSplit,
    theta: f64,
    h: usize,
) {
    let d = split.head_dim();
    for (token, row) in q.chunks_exact_mut(h * d).enumerate() {
        let (frame, at) = (frames[token / (rows * cols)], token % (rows * cols));
        let angles: Vec<(f64, f64)> = turns(theta, split.frame, frame)
            .chain(turns(theta, split.row, (at / cols) as i64))
            .chain(turns(theta, split.col, (at % cols) as i64))
            .collect();
        for head in row.chunks_exact_mut(d) {
            for (pair, (c, s)) in head.chunks_exact_mut(2).zip(&angles) {
                let (a, b) = (f64::from(pair[0]), f64::from(pair[1]));
                (pair[0], pair[1]) = ((a * c - b * s) as f32, (a * s + b * c) as f32);
            }
        }
    }
}
