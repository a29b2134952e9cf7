use longtake::gpu::{Device, Purpose};
use longtake::ops::{Attention, KvFormat, Positions, RopeSplit, Rows, Segment, attention};

use crate::support::{Out, Tol, check_twin, errors, gpus, input, run, values};

/// One page: which frames lie in which of its slots.
#[derive(Debug, Clone)]
struct Page {
    format: KvFormat,
    frames: Vec<(i64, u32)>,
    rope: bool,
    grid: (usize, usize),
    tokens: usize,
}

#[derive(Debug, Clone)]
struct Case {
    head_dim: usize,
    n_heads: usize,
    n_queries: usize,
    pages: Vec<Page>,
}

fn film(format: KvFormat, grid: (usize, usize), frames: &[(i64, u32)]) -> Page {
    Page {
        format,
        frames: frames.to_vec(),
        rope: true,
        grid,
        tokens: grid.0 * grid.1,
    }
}

fn text(format: KvFormat, tokens: usize) -> Page {
    Page {
        format,
        frames: vec![(0, 0)],
        rope: false,
        grid: (1, 1),
        tokens,
    }
}

/// Keys or values of a frame depend on the frame alone, so that the same frame in another page is the same.
fn rows(seed: u64, page: &Page, width: usize) -> Vec<f32> {
    let slots = page.frames.iter().map(|f| f.1).max().unwrap() as usize + 1;
    // What no frame of the page names must never be read: one NaN there would spread to every output.
    let mut all = vec![f32::NAN; slots * page.tokens * width];
    for (frame, slot) in &page.frames {
        let n = page.tokens * width;
        let v = values(seed.wrapping_add(*frame as u64 * 2), n);
        all[*slot as usize * n..][..n].copy_from_slice(&v);
    }
    all
}

fn outputs(device: &Device, c: &Case) -> Vec<Vec<f32>> {
    let width = c.n_heads * c.head_dim;
    let split = RopeSplit::wan(c.head_dim);
    let q_stride = width + 8;
    // Scores up to about 4: softmax has something to choose from.
    let size = 4.0 * 3.0 / (c.head_dim as f32).sqrt();
    let q = input(
        device,
        &values(7, c.n_queries * q_stride)
            .into_iter()
            .map(|v| size * v)
            .collect::<Vec<_>>(),
    );
    let parts: Vec<_> = c
        .pages
        .iter()
        .map(|p| {
            let upload = |seed| {
                device
                    .upload(
                        Purpose::Cache,
                        "page",
                        &p.format.pack(&rows(seed, p, width)),
                    )
                    .unwrap()
            };
            let mut positions =
                Positions::new(device, split, 10_000.0, p.grid.0, p.grid.1).unwrap();
            positions.set_frames(device, &p.frames);
            (upload(100), upload(200), positions)
        })
        .collect();
    let segments: Vec<_> = c
        .pages
        .iter()
        .zip(&parts)
        .map(|(p, (k, v, positions))| Segment {
            k,
            v,
            rows: Rows::Plain(p.format),
            positions,
            rope: p.rope,
            tokens_per_frame: p.tokens,
        })
        .collect();
    let out = Out::unwritten(device, c.n_queries * width);
    let state = Out::unwritten(device, c.n_queries * c.n_heads * 2);
    let args = Attention {
        q: &q,
        q_stride,
        n_queries: c.n_queries,
        n_heads: c.n_heads,
        segments: &segments,
        out: &out.buffer,
        state: &state.buffer,
    };
    run(device, |rec| attention(rec, &args));
    state.read(device);
    vec![out.read(device)]
}

/// A score is a sum of `head_dim` products, its error that of `Tol::sums` times its size, some 4, and turns into a relative
/// error of its weight; exp adds (3 + 2 |s - max|) ulp, up to 20. Weighted sums average these out, and so does the output.
fn tol(head_dim: usize) -> Tol {
    let t = Tol::sums(head_dim);
    Tol {
        nmse: 16.0 * t.nmse,
        max: 4.0 * t.max,
    }
}

fn check(c: &Case) {
    check_twin(&format!("{c:?}"), tol(c.head_dim), |device| {
        outputs(device, c)
    });
}

#[test]
fn attention_equals_twin_over_film_pages() {
    use KvFormat::F16;
    let case = |n_queries, pages| Case {
        head_dim: 64,
        n_heads: 3,
        n_queries,
        pages,
    };
    // A window of one page; slots in any order with gaps; three pages, the last nearly empty.
    check(&case(48, vec![film(F16, (6, 8), &[(0, 0), (1, 1)])]));
    check(&case(
        1,
        vec![film(F16, (5, 10), &[(5002, 4), (5000, 1), (5001, 7)])],
    ));
    check(&case(
        100,
        vec![
            film(F16, (2, 3), &[(0, 2)]),
            film(F16, (2, 3), &[(9, 0), (8, 5)]),
            film(F16, (2, 3), &[(10, 1)]),
        ],
    ));
    check(&case(
        6,
        vec![
            film(F16, (1, 1), &[(3, 0)]),
            film(F16, (1, 1), &[(4, 3), (5, 2)]),
        ],
    ));
    check(&case(17, vec![film(F16, (2, 4), &[(3, 1)])]));
}

#[test]
fn attention_equals_twin_over_text() {
    check(&Case {
        head_dim: 64,
        n_heads: 2,
        n_queries: 48,
        pages: vec![text(KvFormat::F16, 50)],
    });
    check(&Case {
        head_dim: 64,
        n_heads: 2,
        n_queries: 6,
        pages: vec![text(KvFormat::F16, 1)],
    });
}

#[test]
fn attention_equals_twin_in_other_formats_and_head_dims() {
    use KvFormat::{Bf16, F16, F32};
    // Pages of several formats make one softmax.
    let mixed = vec![
        film(F32, (2, 4), &[(0, 0), (1, 2)]),
        film(Bf16, (2, 4), &[(2, 1)]),
        film(F32, (2, 4), &[(3, 0)]),
    ];
    check(&Case {
        head_dim: 32,
        n_heads: 2,
        n_queries: 48,
        pages: mixed,
    });
    check(&Case {
        head_dim: 20,
        n_heads: 2,
        n_queries: 6,
        pages: vec![film(F16, (2, 3), &[(7, 1), (8, 0)])],
    });
    check(&Case {
        head_dim: 128,
        n_heads: 2,
        n_queries: 48,
        pages: vec![film(F16, (6, 8), &[(20, 0), (21, 1)])],
    });
}

/// Pages are a matter of storage: cutting the same frames otherwise changes nothing but roundings.
#[test]
fn attention_over_one_page_and_over_many_agree() {
    let of = |pages| Case {
        head_dim: 64,
        n_heads: 2,
        n_queries: 48,
        pages,
    };
    let page = |frames: &[(i64, u32)]| film(KvFormat::F16, (2, 3), frames);
    let one = of(vec![page(&[(0, 0), (1, 1), (2, 2), (3, 3)])]);
    let many = of(vec![
        page(&[(2, 1)]),
        page(&[(3, 0), (0, 4)]),
        page(&[(1, 0)]),
    ]);
    for gpu in gpus() {
        let (a, b) = (outputs(&gpu.device, &one), outputs(&gpu.device, &many));
        let (nmse, max) = errors(&a[0], &b[0]);
        let tol = tol(64);
        assert!(
            nmse <= tol.nmse && max <= tol.max,
            "{}: NMSE {nmse:.2e}, max {max:.2e}",
            gpu.label
        );
    }
}

/// One key far above all others takes the whole weight, whichever page it comes in: the carried maximum works both ways.
#[test]
fn attention_survives_a_score_far_above_the_others() {
    for gpu in gpus() {
        let d = &gpu.device;
        for loud in 0..3 {
            let positions: Vec<_> = (0..3)
                .map(|_| {
                    let mut p = Positions::new(d, RopeSplit::wan(64), 10_000.0, 1, 1).unwrap();
                    p.set_frames(d, &[(0, 0)]);
                    p
                })
                .collect();
            let pages: Vec<_> = (0..3)
                .map(|i| {
                    let k = if i == loud { 60.0 } else { -60.0 };
                    let pack = |v: f32| {
                        d.upload(Purpose::Cache, "page", &KvFormat::F16.pack(&[v; 64]))
                            .unwrap()
                    };
                    (pack(k), pack(i as f32))
                })
                .collect();
            let segments: Vec<_> = (0..3)
                .map(|i| Segment {
                    k: &pages[i].0,
                    v: &pages[i].1,
                    rows: Rows::Plain(KvFormat::F16),
                    positions: &positions[i],
                    rope: false,
                    tokens_per_frame: 1,
                })
                .collect();
            let q = input(d, &[60.0; 64]);
            let (out, state) = (Out::<f32>::unwritten(d, 64), Out::<f32>::unwritten(d, 2));
            let args = Attention {
                q: &q,
                q_stride: 64,
                n_queries: 1,
                n_heads: 1,
                segments: &segments,
                out: &out.buffer,
                state: &state.buffer,
            };
            run(d, |rec| attention(rec, &args));
            assert_eq!(out.read(d), [loud as f32; 64], "{}", gpu.label);
            assert_eq!(state.read(d)[1], 1.0);
        }
    }
}

/// The last row of a text, standing for all its padding, weighs as much as all of it.
#[test]
fn a_merged_last_row_weighs_as_the_rows_it_stands_for() {
    let (head_dim, n_heads, n_queries, padding) = (64, 2, 50, 37);
    let width = n_heads * head_dim;
    // One row of text or none, and ends of what kernels take at once.
    for n_rows in [1, 2, 4, 5, 8, 9, 16, 60] {
        let (mut k, mut v) = (values(1, n_rows * width), values(2, n_rows * width));
        let q: Vec<f32> = values(3, n_queries * width)
            .iter()
            .map(|q| 1.5 * q)
            .collect();
        let of = |device: &Device, k: &[f32], v: &[f32], rows: Rows| {
            let upload = |rows: &[f32]| {
                let words = KvFormat::F32.pack(rows);
                device.upload(Purpose::Cache, "text", &words).unwrap()
            };
            let split = RopeSplit::wan(head_dim);
            let mut positions = Positions::new(device, split, 10_000.0, 1, 1).unwrap();
            positions.set_frames(device, &[(0, 0)]);
            let (k_page, v_page, q) = (upload(k), upload(v), input(device, &q));
            let out = Out::<f32>::unwritten(device, n_queries * width);
            let state = Out::<f32>::unwritten(device, n_queries * n_heads * 2);
            let segment = Segment {
                k: &k_page,
                v: &v_page,
                rows,
                positions: &positions,
                rope: false,
                tokens_per_frame: k.len() / width,
            };
            let args = Attention {
                q: &q,
                q_stride: width,
                n_queries,
                n_heads,
                segments: &[segment],
                out: &out.buffer,
                state: &state.buffer,
            };
            run(device, |rec| attention(rec, &args));
            out.read(device)
        };
        let merged = |last_bias| Rows::Merged {
            format: KvFormat::F32,
            last_bias,
        };
        let plain = Rows::Plain(KvFormat::F32);
        let devices = gpus().iter().map(|gpu| (gpu.label, gpu.device.clone()));
        let short: Vec<_> = devices
            .chain([("twin", Device::twin())])
            .map(|(label, d)| {
                let one = of(&d, &k, &v, merged((padding as f32).ln()));
                // No bias, no difference, in any bit.
                assert_eq!(
                    of(&d, &k, &v, merged(0.0)),
                    of(&d, &k, &v, plain),
                    "{label}"
                );
                (label, d, one)
            })
            .collect();
        for rows in [&mut k, &mut v] {
            let last = rows[rows.len() - width..].to_vec();
            (1..padding).for_each(|_| rows.extend_from_slice(&last));
        }
        for (label, d, one) in short {
            let (nmse, max) = errors(&one, &of(&d, &k, &v, plain));
            let tol = tol(head_dim);
            assert!(
                nmse <= tol.nmse && max <= tol.max,
                "{label}, {n_rows} rows: NMSE {nmse:.2e}, max {max:.2e}"
            );
        }
    }
}
