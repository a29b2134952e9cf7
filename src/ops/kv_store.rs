//! Writes K (after its norm, before RoPE) and V of a pass into a page of the cache, in the page's format.

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};

use super::{each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "kv_store",
    source: Source::File(include_str!("../../shaders/kv_store.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| {
        KvFormat::ALL
            .iter()
            .map(|f| vec![("FORMAT", f.code())])
            .collect()
    },
    twin,
};

/// How a page stores keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KvFormat {
    /// 32-bit floats: for exact comparisons.
    F32,
    /// 16-bit floats with 11 significant bits; values beyond 65504 saturate.
    F16,
    /// 16-bit floats with f32's range and 8 significant bits.
    Bf16,
}

impl KvFormat {
    /// All formats.
    pub const ALL: [KvFormat; 3] = [KvFormat::F32, KvFormat::F16, KvFormat::Bf16];

    /// The number shaders know it by.
    pub(super) fn code(self) -> u32 {
        self as u32
    }

    /// The format with this number.
    pub(super) fn from_code(code: u32) -> KvFormat {
        Self::ALL[code as usize]
    }

    /// 32-bit words that hold `n` values, `n` a multiple of 4.
    pub fn words(self, n: usize) -> usize {
        match self {
            KvFormat::F32 => n,
            KvFormat::F16 | KvFormat::Bf16 => n / 2,
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        self.words(4)
    }

    /// The word flags use.
    pub fn name(self) -> &'static str {
        match self {
            KvFormat::F32 => "f32",
            KvFormat::F16 => "f16",
            KvFormat::Bf16 => "bf16",
        }
    }

    /// Values as a page holds them.
    pub fn pack(self, values: &[f32]) -> Vec<u32> {
        let pairs = |f: fn(f32) -> u16| {
            values
                .chunks(2)
                .map(|p| u32::from(f(p[0])) | u32::from(f(*p.get(1).unwrap_or(&0.0))) << 16)
                .collect()
        };
        match self {
            KvFormat::F32 => values.iter().map(|v| v.to_bits()).collect(),
            KvFormat::F16 => pairs(|v| f16::from_f32(v.clamp(-65504.0, 65504.0)).to_bits()),
            KvFormat::Bf16 => pairs(|v| bf16::from_f32(v).to_bits()),
        }
    }

    /// Values from a page's words.
    pub fn unpack(self, words: &[u32]) -> Vec<f32> {
        let halves = |f: fn(u16) -> f32| {
            words
                .iter()
                .flat_map(|w| [f(*w as u16), f((*w >> 16) as u16)])
                .collect()
        };
        match self {
            KvFormat::F32 => words.iter().map(|w| f32::from_bits(*w)).collect(),
            KvFormat::F16 => halves(|b| f16::from_bits(b).to_f32()),
            KvFormat::Bf16 => halves(|b| bf16::from_bits(b).to_f32()),
        }
    }
}

/// Arguments of [`kv_store`]. Sizes and offsets are in values, multiples of 4.
#[derive(Debug, Clone, Copy)]
pub struct KvStore<'a> {
    /// Where K comes from, `[row, src_stride]`.
    pub k_src: &'a Buffer<f32>,
    /// Where V comes from, `[row, src_stride]`; may be `k_src`.
    pub v_src: &'a Buffer<f32>,
    /// First value of K and of V in a row.
    pub at: (usize, usize),
    /// Values from row to row in the sources.
    pub src_stride: usize,
    /// First row to store.
    pub src_row: usize,
    /// Rows to store.
    pub n_rows: usize,
    /// Channels of a row of K and of V.
    pub channels: usize,
    /// The page's keys, `[row, channel]`.
    pub k: &'a Buffer<u32>,
    /// The page's values, `[row, channel]`.
    pub v: &'a Buffer<u32>,
    /// First row in the page.
    pub dst_row: usize,
    /// The page's format.
    pub format: KvFormat,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_rows: u32,
    n_quads: u32,
    src_row: u32,
    src_stride: u32,
    k_at: u32,
    v_at: u32,
    dst_row: u32,
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn kv_store(rec: &mut Recorder<'_>, a: &KvStore<'_>) {
    assert!(
        [a.at.0, a.at.1, a.src_stride, a.channels]
            .iter()
            .all(|n| n.is_multiple_of(4)),
        "kv_store widths"
    );
    let end = a.format.words((a.dst_row + a.n_rows) * a.channels);
    assert!(a.k.len() >= end && a.v.len() >= end, "page too short");
    let src = (a.src_row + a.n_rows) * a.src_stride;
    assert!(
        a.k_src.len() >= src && a.v_src.len() >= src,
        "kv_store source too short"
    );
    let p = Params {
        first_group: 0,
        n_groups: 0,
        n_rows: u32_of(a.n_rows),
        n_quads: u32_of(a.channels / 4),
        src_row: u32_of(a.src_row),
        src_stride: u32_of(a.src_stride / 4),
        k_at: u32_of(a.at.0 / 4),
        v_at: u32_of(a.at.1 / 4),
        dst_row: u32_of(a.dst_row),
    };
    let mut plan = each(a.n_rows * a.channels / 4);
    plan.knobs = vec![("FORMAT", a.format.code())];
    rec.dispatch(
        &KERNEL,
        plan,
        &p,
        &[a.k_src.into(), a.v_src.into(), a.k.into(), a.v.into()],
    );
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let format = KvFormat::from_code(l.knob("FORMAT"));
    let n = p.n_quads as usize * 4;
    for (src, dst, at) in [(1, 3, p.k_at), (2, 4, p.v_at)] {
        let rows: Vec<f32> = l.read(src);
        let mut page: Vec<u32> = l.read(dst);
        for i in 0..p.n_rows as usize {
            let from = (p.src_row as usize + i) * p.src_stride as usize * 4 + at as usize * 4;
            let to = format.words((p.dst_row as usize + i) * n);
            let packed = format.pack(&rows[from..from + n]);
            page[to..to + packed.len()].copy_from_slice(&packed);
        }
        l.write(dst, &page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_round_trip_what_they_can_hold() {
        let v = [0.0, -1.5, 65504.0, 1.0];
        for f in KvFormat::ALL {
            let got = f.unpack(&f.pack(&v));
            assert_eq!(got[0..2], v[0..2]);
            assert!((got[2] / v[2] - 1.0).abs() < 0.01);
            assert_eq!(f.pack(&v).len(), f.words(4));
        }
        assert_eq!(
            KvFormat::F16.unpack(&KvFormat::F16.pack(&[1e9, -1e9]))[0],
            65504.0
        );
    }
}
