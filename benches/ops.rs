//! GFLOP/s of the two kernels that cost the time, at the demo world's and at Wan 1.3B's shapes: `linear` beside a CPU GEMM
//! crate, attention over coded pages beside 16-bit pages.
//!
//!     cargo bench [-- FILTER]
//!
//! Each line gives wall time and, because cores are often shared, the CPU time of the whole process: on a CPU driver
//! `GFLOP/cpu-s` is what the machine's neighbours disturb least. `gemm` runs on the same cores in the same process.

#![allow(missing_docs, reason = "a bench has no API")]

use std::time::Instant;

use longtake::cache::{CacheShape, KvCache, Policy, SpansPlan};
use longtake::codec::KvPair;
use longtake::gpu::{Device, Purpose, Select};
use longtake::ops::{
    Activation, Attention, KvFormat, Linear, Matrix, RopeSplit, Rows, Segment, Store, WeightFormat,
    attention, linear,
};

/// CPU seconds of all threads of this process so far; wall seconds where the system does not tell.
fn cpu_secs(start: Instant) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let ns = tasks.filter_map(|t| {
        let text = std::fs::read_to_string(t.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    let sum: f64 = ns.sum();
    if sum > 0.0 {
        sum * 1e-9
    } else {
        start.elapsed().as_secs_f64()
    }
}

/// Median wall seconds and mean CPU seconds of one call.
fn measure(mut f: impl FnMut()) -> (f64, f64) {
    f();
    let start = Instant::now();
    let mut walls = Vec::new();
    let cpu = cpu_secs(start);
    while walls.len() < 5 || start.elapsed().as_secs_f64() < 0.6 {
        let t = Instant::now();
        f();
        walls.push(t.elapsed().as_secs_f64());
    }
    let cpu = (cpu_secs(start) - cpu) / walls.len() as f64;
    walls.sort_unstable_by(f64::total_cmp);
    (walls[walls.len() / 2], cpu)
}

/// Wall and CPU seconds of one call, of several where one is too short for the system's CPU clock.
fn measure_once(mut f: impl FnMut()) -> (f64, f64) {
    let (start, mut n) = (Instant::now(), 0);
    let cpu = cpu_secs(start);
    while n == 0 || start.elapsed().as_secs_f64() < 0.05 {
        f();
        n += 1;
    }
    let n = f64::from(n);
    (
        start.elapsed().as_secs_f64() / n,
        (cpu_secs(start) - cpu) / n,
    )
}

fn values(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0)
        .collect()
}

fn line(name: &str, flop: f64, (wall, cpu): (f64, f64)) -> f64 {
    println!(
        "{name:<58} {:>9.3} ms {:>8.1} GFLOP/s {:>8.1} GFLOP/cpu-s",
        wall * 1e3,
        flop / wall * 1e-9,
        flop / cpu * 1e-9
    );
    flop / cpu
}

fn bench_linear(device: &Device, name: &str, m: usize, n: usize, k: usize) {
    let (x, w) = (values(m * k), values(n * k));
    let flop = 2.0 * (m * n * k) as f64;
    let mut y = vec![0.0f32; m * n];
    let cpu = measure(|| {
        // SAFETY: the three slices are exactly m k, k n and m n long, and the strides walk them once.
        #[expect(unsafe_code, reason = "the crate's only entry takes pointers")]
        unsafe {
            let threads = gemm::Parallelism::Rayon(0);
            let (dst, lhs, rhs) = (y.as_mut_ptr(), x.as_ptr(), w.as_ptr());
            gemm::gemm(
                m, n, k, dst, 1, n as isize, false, lhs, 1, k as isize, rhs, k as isize, 1, 0.0,
                1.0, false, false, false, threads,
            );
        }
    });
    let gemm = line(&format!("gemm crate       {name} {m}x{n}x{k}"), flop, cpu);
    for format in WeightFormat::ALL {
        let up = |v: &[f32]| {
            device
                .upload(Purpose::Scratch, "x", v)
                .expect("device memory")
        };
        let (dx, dy) = (
            up(&x),
            device
                .zeros::<f32>(Purpose::Scratch, "y", m * n)
                .expect("device memory"),
        );
        let weight = device
            .upload(Purpose::Weights, "w", &format.pack(&w))
            .expect("device memory");
        let matrix = Matrix {
            weight,
            bias: up(&vec![0.0; n]),
            n,
            k,
            format,
        };
        let repeat = (2e8 / flop).ceil().clamp(1.0, 40.0) as usize;
        let (wall, cpu) = measure(|| {
            let mut rec = device.recorder();
            for _ in 0..repeat {
                linear(
                    &mut rec,
                    &Linear {
                        x: &dx,
                        matrix: &matrix,
                        y: &dy,
                        n_rows: m,
                        act: Activation::None,
                        store: Store::Set,
                    },
                );
            }
            device.run(rec).expect("runs");
            device.wait().expect("runs");
        });
        let got = line(
            &format!("linear {format:?} weights {name} {m}x{n}x{k}"),
            flop,
            (wall / repeat as f64, cpu / repeat as f64),
        );
        println!("{:<58} {:.2} of gemm", "", got / gemm);
    }
}

struct Shape {
    name: &'static str,
    queries: usize,
    heads: usize,
    head_dim: usize,
    grid: (usize, usize),
    frames: usize,
    /// Frames of a coded span.
    span: usize,
}

/// What pages hold, each beside 16-bit pages of the same frames: exact formats, then settings that code.
const ROWS: [&str; 7] = [
    "f16",
    "f32",
    "int2",
    "int2:centroids=256",
    "int4",
    "qvg-int2",
    "qvg-pro",
];
const N_EXACT: usize = 2;

/// A cache of one layer whose frames are all coded by `name`, or all in that format.
fn filled(device: &Device, s: &Shape, name: &str) -> KvCache {
    let format = KvFormat::ALL
        .into_iter()
        .find(|f| format!("{f:?}").eq_ignore_ascii_case(name));
    let policy = Policy {
        span_chunks: if format.is_some() { 0 } else { s.span },
        ..Policy::default()
    };
    let chunks = std::iter::repeat_n(1, s.frames + 1);
    let plan = format.is_none().then(|| {
        let pair = KvPair::of(name, name).expect("a known setting");
        SpansPlan::new(pair, s.head_dim, &policy, chunks)
            .expect("fits")
            .expect("something is coded")
    });
    let shape = CacheShape {
        n_layers: 1,
        n_heads: s.heads,
        split: RopeSplit::wan(s.head_dim),
        theta: 1e4,
        grid: s.grid,
        format: format.unwrap_or(KvFormat::F16),
        max_frames: plan.as_ref().map_or(s.frames, |p| p.exact_frames),
    };
    let mut cache = KvCache::new(shape, device.caps(), policy, plan.as_ref());
    for frame in 0..s.frames as i64 {
        cache
            .begin(device, frame..frame + 1)
            .expect("device memory");
        let rows = values(shape.frame_values() + frame as usize)[frame as usize..].to_vec();
        cache.write_frame(device, 0, frame, &rows, &rows);
    }
    if format.is_none() {
        // The next frame has the last span coded.
        let next = s.frames as i64;
        cache.begin(device, next..next + 1).expect("device memory");
    }
    cache
}

fn bench_attention(device: &Device, s: &Shape) {
    let (tokens, d) = (s.grid.0 * s.grid.1, s.heads * s.head_dim);
    let up = |n| {
        device
            .zeros(Purpose::Scratch, "attention", n)
            .expect("device memory")
    };
    let q = device
        .upload(Purpose::Scratch, "q", &values(s.queries * d))
        .expect("device memory");
    let (out, state) = (up(s.queries * d), up(s.queries * s.heads * 2));
    let caches: Vec<KvCache> = ROWS.iter().map(|name| filled(device, s, name)).collect();
    let segments = |(i, c)| -> Vec<_> {
        let (c, exact): (&KvCache, bool) = (c, i < N_EXACT);
        let read = |s: &Segment<'_>| exact || matches!(s.rows, Rows::Coded { .. });
        c.segments(0).into_iter().filter(read).collect()
    };
    let segments: Vec<_> = caches.iter().enumerate().map(segments).collect();
    let run = |i: usize| {
        let mut rec = device.recorder();
        let a = Attention {
            q: &q,
            q_stride: d,
            n_queries: s.queries,
            n_heads: s.heads,
            segments: &segments[i],
            out: &out,
            state: &state,
        };
        attention(&mut rec, &a);
        device.run(rec).expect("runs");
        device.wait().expect("runs");
    };
    // In turns, so that a busy minute of the machine meets all of them.
    let mut figures = vec![Vec::new(); ROWS.len()];
    for round in 0..9 {
        for (i, figures) in figures.iter_mut().enumerate() {
            let figure = measure_once(|| run(i));
            if round > 0 {
                figures.push(figure);
            }
        }
    }
    let flop = 4.0 * (s.queries * s.frames * tokens * d) as f64;
    let median = |of: &dyn Fn(usize) -> f64| {
        let mut v: Vec<f64> = (0..figures[0].len()).map(of).collect();
        v.sort_unstable_by(f64::total_cmp);
        v[v.len() / 2]
    };
    for (i, name) in ROWS.iter().enumerate() {
        let (f, base) = (&figures[i], &figures[0]);
        let name = format!(
            "attention {name} {} {}q x {}k x {}h x {}",
            s.name,
            s.queries,
            s.frames * tokens,
            s.heads,
            s.head_dim
        );
        line(&name, flop, (median(&|r| f[r].0), median(&|r| f[r].1)));
        println!(
            "{:<58} {:.2} of the CPU time of f16 pages",
            "",
            median(&|r| f[r].1 / base[r].1)
        );
    }
}

fn main() {
    let filter: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let wants = |name: &str| filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()));
    let select = Select {
        device: std::env::var("LONGTAKE_DEVICE").ok(),
        ..Select::default()
    };
    let device = match Device::open(&select) {
        Ok(d) => d,
        Err(e) => return eprintln!("{e}"),
    };
    println!(
        "{} | {} | tier {}",
        device.caps().title(),
        device.caps().driver,
        device.caps().tier.name()
    );
    // The demo world: 48 tokens a frame, hidden 256, FFN 768. Wan 1.3B: hidden 1536, FFN 8960, a band of a chunk's tokens.
    let shapes = [
        ("demo qkv", 48, 768, 256),
        ("demo ffn", 48, 256, 768),
        ("wan qkv", 96, 4608, 1536),
        ("wan ffn", 96, 8960, 1536),
    ];
    for (name, m, n, k) in shapes.into_iter().filter(|s| wants("linear") || wants(s.0)) {
        bench_linear(&device, name, m, n, k);
    }
    let demo = Shape {
        name: "demo",
        queries: 48,
        heads: 4,
        head_dim: 64,
        grid: (6, 8),
        frames: 64,
        span: 16,
    };
    let wan = Shape {
        name: "wan",
        queries: 96,
        heads: 12,
        head_dim: 128,
        grid: (30, 52),
        frames: 2,
        span: 2,
    };
    for s in [demo, wan]
        .iter()
        .filter(|s| wants("attention") || wants(s.name))
    {
        bench_attention(&device, s);
    }
}
