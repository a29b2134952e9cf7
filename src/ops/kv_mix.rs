//! `x = a x + b y` on values of cache pages, in the pages' own format: a sink that takes in what leaves the window.
//!
//! With `a` 0 and `b` 1 it copies; values that are not numbers in `x` stay such. In 16 bits a result is rounded to the nearest
//! value, so that a share of `y` smaller than half a step of `x` is lost.

use bytemuck::{Pod, Zeroable};

use super::{KvFormat, each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kv_mix",
    source: Source::File(include_str!("../../shaders/kv_mix.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| {
        KvFormat::ALL
            .iter()
            .map(|f| vec![("FORMAT", f.code())])
            .collect()
    },
    twin,
};

/// Arguments of [`kv_mix`]. Sizes and places are in values, multiples of 4.
#[derive(Debug, Clone, Copy)]
pub struct KvMix<'a> {
    /// What is changed.
    pub x: &'a Buffer<u32>,
    /// First value there.
    pub x_at: usize,
    /// What is mixed in; another buffer.
    pub y: &'a Buffer<u32>,
    /// First value there.
    pub y_at: usize,
    /// Values.
    pub n: usize,
    /// Share of what was there.
    pub a: f32,
    /// Share of what is mixed in.
    pub b: f32,
    /// Format of both.
    pub format: KvFormat,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_quads: u32,
    x_at: u32,
    y_at: u32,
    a: f32,
    b: f32,
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn kv_mix(rec: &mut Recorder<'_>, m: &KvMix<'_>) {
    assert!(
        [m.x_at, m.y_at, m.n].iter().all(|n| n.is_multiple_of(4)),
        "kv_mix widths"
    );
    assert!(
        m.x.len() >= m.format.words(m.x_at + m.n) && m.y.len() >= m.format.words(m.y_at + m.n),
        "page too short"
    );
    let p = Params {
        first_group: 0,
        n_groups: 0,
        n_quads: u32_of(m.n / 4),
        x_at: u32_of(m.x_at / 4),
        y_at: u32_of(m.y_at / 4),
        a: m.a,
        b: m.b,
    };
    let mut plan = each(m.n / 4);
    plan.knobs = vec![("FORMAT", m.format.code())];
    rec.dispatch(&KERNEL, plan, &p, &[m.x.into(), m.y.into()]);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let format = KvFormat::from_code(l.knob("FORMAT"));
    let words = |quads: u32| format.words(quads as usize * 4);
    let (n, x_at, y_at) = (words(p.n_quads), words(p.x_at), words(p.y_at));
    let (mut page, y): (Vec<u32>, Vec<u32>) = (l.read(1), l.read(2));
    let mixed: Vec<f32> = (format.unpack(&page[x_at..x_at + n]).iter())
        .zip(format.unpack(&y[y_at..y_at + n]))
        .map(|(x, y)| (f64::from(p.a) * f64::from(*x) + f64::from(p.b) * f64::from(y)) as f32)
        .collect();
    page[x_at..x_at + n].copy_from_slice(&format.pack(&mixed));
    l.write(1, &page);
}
