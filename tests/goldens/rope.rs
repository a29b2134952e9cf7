//! Rotation tables on the host in f64 and as the device applies them; sinusoids of timesteps.

use std::collections::BTreeSet;

use longtake::gpu::{Device, Purpose};
use longtake::model::config::{DitConfig, RopeConfig};
use longtake::model::sinusoid;
use longtake::ops::{Positions, Rope, RopeSplit, rope, turns};

use super::check::Check;

/// Tables in f64: the last digits are the two mathematics libraries'.
const F64: f64 = 1e-9;

pub fn run(check: &mut Check, device: &Device) {
    let theta = DitConfig::selfforcing_1_3b().rope.theta;
    for dim in numbers(check, "hd") {
        let name = |part: &str| format!("hd{dim}.{part}");
        let split = RopeSplit::wan(dim);
        let pairs = [split.frame, split.row, split.col];
        check.exact(&name("split"), &pairs.map(|n| n as i64));
        let config = RopeConfig::wan(theta, dim as u32).split;
        assert_eq!(
            config.map(|n| n as usize / 2),
            pairs,
            "config and op split alike"
        );
        if let Some(positions) = check.ints(&name("positions")) {
            tables(check, device, dim, &positions, theta);
        } else {
            check.stop();
        }
        let mut case = 0;
        while check.has_like(&name(&format!("case{case}.")), "") {
            applied(check, device, dim, &name(&format!("case{case}")), theta);
            case += 1;
        }
    }
    if let Some(ts) = check.reals("time_sin.t") {
        for dim in numbers(check, "time_sin.dim") {
            let rows = ts.iter().flat_map(|t| sinusoid(f64::from(*t), dim));
            check.real(&format!("time_sin.dim{dim}"), &rows.collect::<Vec<_>>());
        }
    }
}

/// The numbers that follow `prefix` in the file's names.
fn numbers(check: &Check, prefix: &str) -> BTreeSet<usize> {
    let digits = |rest: &str| {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    let names = check.names();
    names
        .iter()
        .filter_map(|n| digits(n.strip_prefix(prefix)?))
        .collect()
}

fn tables(check: &mut Check, device: &Device, dim: usize, positions: &[i64], theta: f64) {
    let split = RopeSplit::wan(dim);
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for position in positions {
        for n in [split.frame, split.row, split.col] {
            let (c, s): (Vec<f64>, Vec<f64>) = turns(theta, n, *position).unzip();
            cos.extend(c);
            sin.extend(s);
        }
    }
    let (cos_name, sin_name) = (format!("hd{dim}.cos"), format!("hd{dim}.sin"));
    check.against(&cos_name, "", &cos, F64);
    check.against(&sin_name, "", &sin, F64);
    // On the device every position is a frame; as rows and columns only those that a table holds.
    let turned = on_device(device, dim, positions, theta);
    let every = |part: usize| {
        turned
            .iter()
            .skip(part)
            .step_by(2)
            .map(|v| f64::from(*v))
            .collect::<Vec<_>>()
    };
    check.against(&cos_name, " on the device", &every(0), 1e-6);
    check.against(&sin_name, " on the device", &every(1), 1e-6);
}

/// Pairs (1, 0), each turned by its axis' angle at the position: `[position, dim]`.
fn on_device(device: &Device, dim: usize, positions: &[i64], theta: f64) -> Vec<f32> {
    let split = RopeSplit::wan(dim);
    let turned = |frame: i64, rows: usize, cols: usize| {
        let mut table = Positions::new(device, split, theta, rows, cols).unwrap();
        table.set_frames(device, &[(frame, 0)]);
        let x: Vec<f32> = [1.0, 0.0].repeat(rows * cols * dim / 2);
        let x = device.upload(Purpose::Scratch, "x", &x).unwrap();
        let mut rec = device.recorder();
        rope(
            &mut rec,
            &Rope {
                x: &x,
                positions: &table,
                n_heads: 1,
                row_stride: dim,
            },
        );
        device.run(rec).unwrap();
        device.read_all(&x).unwrap()
    };
    let (row_at, col_at) = (2 * split.frame, 2 * (split.frame + split.row));
    let mut out = Vec::new();
    for position in positions {
        out.extend_from_slice(&turned(*position, 1, 1)[..row_at]);
        // A table that could not hold the position shows the host's values in its place.
        for (at, n, is_row) in [(row_at, split.row, true), (col_at, split.col, false)] {
            let side = *position as usize + 1;
            let (rows, cols) = if is_row { (side, 1) } else { (1, side) };
            if Positions::capacity(split, rows, cols) > 0 {
                let all = turned(0, rows, cols);
                out.extend_from_slice(&all[(side - 1) * dim + at..][..2 * n]);
            } else {
                out.extend(turns(theta, n, *position).flat_map(|(c, s)| [c as f32, s as f32]));
            }
        }
    }
    out
}

fn applied(check: &mut Check, device: &Device, dim: usize, case: &str, theta: f64) {
    let (Some(grid), Some(start)) = (
        check.ints(&format!("{case}.grid")),
        check.ints(&format!("{case}.start_frame")),
    ) else {
        return check.stop();
    };
    let Some(x) = check.reals(&format!("{case}.x")) else {
        return check.stop();
    };
    let (frames, rows, cols) = (grid[0], grid[1] as usize, grid[2] as usize);
    let n_heads = x.len() / (frames as usize * rows * cols * dim);
    let ids: Vec<i64> = (start[0]..start[0] + frames).collect();
    let y = turned(device, RopeSplit::wan(dim), theta, (rows, cols), &ids, &x);
    assert_eq!(x.len(), ids.len() * rows * cols * n_heads * dim);
    check.real(&format!("{case}.y"), &y);
}

/// `x`, `[frame, token, head, head_dim]` of frames with these ids, after RoPE on the device.
pub fn turned(
    device: &Device,
    split: RopeSplit,
    theta: f64,
    (rows, cols): (usize, usize),
    frames: &[i64],
    x: &[f32],
) -> Vec<f32> {
    let width = x.len() / (frames.len() * rows * cols);
    let mut out = Vec::new();
    let per_table = Positions::capacity(split, rows, cols);
    for (ids, x) in frames
        .chunks(per_table)
        .zip(x.chunks(per_table * rows * cols * width))
    {
        let mut positions = Positions::new(device, split, theta, rows, cols).unwrap();
        positions.set_frames(device, &ids.iter().map(|f| (*f, 0)).collect::<Vec<_>>());
        let x = device.upload(Purpose::Scratch, "x", x).unwrap();
        let mut rec = device.recorder();
        rope(
            &mut rec,
            &Rope {
                x: &x,
                positions: &positions,
                n_heads: width / split.head_dim(),
                row_stride: width,
            },
        );
        device.run(rec).unwrap();
        out.extend(device.read_all(&x).unwrap());
    }
    out
}
