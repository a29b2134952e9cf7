//! A film that was never made, told to the window message by message: true frames of an embedded walk as pictures, figures
//! that add up. Numbers repeat, so that pictures of the window can be compared.

use std::sync::Arc;

use longtake::cache::{Held, KvFigures, LayerFigures};
use longtake::rollout::event::{Event, LoadStage, MemoryUse, Offload};
use longtake::rollout::{Drift, Look};
use longtake::world::{Action, Pose, SeedFilm};
use longtake_viewer::job::{Job, Width, Widths};
use longtake_viewer::memory::Errors;
use longtake_viewer::state::State;
use longtake_viewer::text::{Mark, Told};
use longtake_viewer::worker::{Begun, Compared, Made, Message, Reins, Split};

/// Bytes of a frame in 16 bit: 48 tokens, 4 heads of 64, K and V, 6 layers.
const FRAME: u64 = 48 * 4 * 64 * 2 * 2 * 6;
const LAYERS: u64 = 6;
const SPAN: usize = 8;

/// A window with nothing loaded and a plan.
pub fn empty() -> State {
    let job = Job {
        given: 24,
        window: 72,
        sink: 8,
        ..Job::default()
    };
    let mut s = State::new(job, Arc::new(Reins::default()));
    s.device.title = "A card (vulkan)".into();
    s.device.driver = "driver 1.2.3".into();
    s.device.kind = "a card of its own";
    s.device.tier = "portable f32";
    s.device.free = Some(6 << 30);
    s.devices = vec![s.device.title.clone()];
    // The panes ask for a plan once; the answer comes as from the worker.
    s.replan();
    s.effects.clear();
    s.hear(Message::Planned(Box::new(Ok(plan(&s.job)))));
    s
}

fn plan(job: &Job) -> Event {
    Event::Plan {
        model: "rooms".into(),
        device: "A card (vulkan)".into(),
        tier: "portable f32".into(),
        seed: job.seed,
        frames: job.most as u32,
        given_frames: job.given as u32,
        chunks: job.most as u32,
        width: 64,
        height: 48,
        fps: 8,
        steps: 2,
        window: Some(job.window),
        sink: job.sink,
        kv: Some("int4".into()),
        offload: Offload::default(),
        decoder_bands: 1,
        decoder_host_bytes: 0,
        planned: MemoryUse {
            weights_bytes: 9_243_392,
            cache_bytes: 12 * FRAME,
            spans_bytes: 60 * FRAME / 4,
            activations_bytes: 638_640,
            scratch_bytes: 1_771_096,
            peak_device_bytes: 9_243_392 + 27 * FRAME + 2_409_736,
            ..MemoryUse::default()
        },
    }
}

/// A film whose given frames are on their way into the cache.
pub fn loading() -> State {
    let mut s = empty();
    s.start();
    s.effects.clear();
    s.hear(Message::Loading(LoadStage::Device, 1, 1));
    s.hear(Message::Loading(LoadStage::Weights, 112, 112));
    s.hear(Message::Loading(LoadStage::Upload, 9_243_392, 9_243_392));
    begin(&mut s);
    s
}

fn begin(s: &mut State) -> SeedFilm {
    let film = SeedFilm::load(s.job.film).expect("it is embedded");
    let own = |i: usize| (film.frames[i].clone(), film.poses[i]);
    s.hear(Message::Begun(Box::new(Begun {
        job: Job {
            widths: Widths::both(Width::Exact),
            ..s.job.clone()
        },
        film_name: film.name.clone(),
        plan: plan(&s.job),
        given: (0..s.job.given).map(own).collect(),
        layers: LAYERS,
        cell_frames: 1,
    })));
    film
}

/// The same beside itself in half floats: equal at first, then farther and farther apart.
pub fn compared(made: usize) -> State {
    let mut s = running(made);
    s.toggle_compare();
    s.effects.clear();
    for i in 0..made {
        let mut frame = longtake::frame::Frame::clone(&s.film.shots[s.job.given + i].frame);
        for (at, v) in frame.rgb.iter_mut().enumerate() {
            let far = i.saturating_sub(17) / 3;
            *v = v.saturating_add((at * 6007 % (far + 1)) as u8);
        }
        s.hear(Message::Compared(Box::new(Compared {
            first: i,
            frames: vec![frame],
            pictures: None,
            kv: figures(&[Held {
                frames: 0..(s.job.given + i) as i64,
                bits: None,
            }]),
            secs: 0.12,
            bytes: 11_000_000 + 300_000 * i as u64,
        })));
    }
    s
}

/// A film of `made` frames, exact at first, at 4 bit from frame 16 on and at 2 bit from frame 40 on.
pub fn running(made: usize) -> State {
    let mut s = empty();
    s.start();
    s.effects.clear();
    let film = begin(&mut s);
    let frames: Vec<_> = film.frames.iter().zip(&film.poses).collect();
    let given = s.job.given;
    let own = |i: usize| (frames[i].0.clone(), *frames[i].1);
    s.widths = Widths::both(Width::Exact);
    for i in 0..made {
        for (at, width) in [(16, Width::Four), (40, Width::Two)] {
            if i == at {
                s.set_bits(Widths::both(width));
                s.effects.clear();
                s.hear(Message::Bits(Widths::both(width), i));
            }
        }
        let (mut frame, pose) = own(given + i);
        // As if the network had added something of its own.
        for (at, v) in frame.rgb.iter_mut().enumerate() {
            *v = v.saturating_add((at * 7919 % 9) as u8);
        }
        let held = held(&s.job, given, i + 1);
        let kv = figures(&held);
        s.hear(Message::Made(Box::new(Made {
            first: i,
            truth: vec![Arc::new(frames[given + i].0.clone())],
            frames: vec![(frame, pose, film.steps[given + i - 1])],
            pictures: None,
            split: Split {
                denoise: 0.081,
                cache: 0.040,
                encode: 0.0024,
                decode: 0.0011,
                total: 0.126,
            },
            memory: memory(&kv),
            other: 0,
            kv,
            held,
            drift: stretch(i + 1).into_iter().collect(),
            errors: Some(Errors {
                by_layer: (0..LAYERS)
                    .map(|l| [0.061 + 0.007 * l as f64, 0.094 - 0.003 * l as f64])
                    .collect(),
                measured: 5,
                spans: 9,
            }),
            main_bytes: Some(212 << 20),
            undo_bytes: 19 << 20,
        })));
    }
    s
}

/// Frames in the window after `made`: the newest exact, spans before them at the width of their time.
fn held(job: &Job, given: usize, made: usize) -> Vec<Held> {
    let n = given + made;
    let exact_from = (n - 4) / SPAN * SPAN;
    let live_from = n.saturating_sub((job.window - job.sink) as usize);
    let sink = job.sink as usize;
    let mut held = Vec::new();
    for start in (0..exact_from).step_by(SPAN) {
        let end = start + SPAN;
        if sink < end && end <= live_from && start >= sink {
            continue;
        }
        let bits = match (start + SPAN).saturating_sub(given) {
            0..16 => 16,
            16..40 => 4,
            _ => 2,
        };
        held.push(Held {
            frames: start as i64..end as i64,
            bits: Some([bits, bits]),
        });
    }
    held.push(Held {
        frames: exact_from as i64..n as i64,
        bits: None,
    });
    held
}

/// What the engine would say after so many made frames, in stretches of eight.
fn stretch(made: usize) -> Option<Drift> {
    let look = |k: f64| Look {
        color: [112.0 + 9.0 * k, 104.0 - 2.0 * k, 97.0],
        contrast: 41.0 - 3.0 * k,
        sharpness: 310.0 + 40.0 * k,
    };
    let n = made / 8;
    (2 <= n && made.is_multiple_of(8)).then(|| Drift {
        first_frame: made as u32 - 8,
        frames: 8,
        look: look(0.25 * n as f64 - 0.4 + 0.3 * (n % 3) as f64),
        start: look(0.0),
        low: Look {
            color: [76.0, 68.0, 60.0],
            contrast: 24.0,
            sharpness: 120.0,
        },
        high: Look {
            color: [148.0, 140.0, 132.0],
            contrast: 58.0,
            sharpness: 540.0,
        },
        left: Vec::new(),
    })
}

fn figures(held: &[Held]) -> KvFigures {
    let mut kv = KvFigures::default();
    for h in held {
        let n = (h.frames.end - h.frames.start) as u64;
        match h.bits {
            None => {
                kv.exact_frames += n;
                kv.exact_bytes += n * FRAME;
            }
            Some([bits, _]) => {
                kv.coded_frames += n;
                for t in [&mut kv.k, &mut kv.v] {
                    let codes = n * FRAME / 2 * u64::from(bits) / 16;
                    t.coded.codes += codes;
                    if bits < 16 {
                        t.coded.scales += n * FRAME / 2 / 128;
                        t.coded.centroids += LAYERS * n * 64;
                    }
                }
            }
        }
    }
    kv.coded_bytes = kv.k.coded.total() + kv.v.coded.total();
    kv.unused_bytes = 4 * FRAME;
    kv.half_bytes = (kv.exact_frames + kv.coded_frames) * FRAME;
    let resident = (kv.exact_bytes + kv.coded_bytes) as f64;
    kv.ratio = kv.half_bytes as f64 / resident;
    kv.bits_per_element = 16.0 / kv.ratio;
    for t in [&mut kv.k, &mut kv.v] {
        t.ratio = (kv.coded_frames * FRAME / 2) as f64 / t.coded.total().max(1) as f64;
        t.bits_per_element = 16.0 / t.ratio;
    }
    let layer = LayerFigures {
        bytes: [&kv.k, &kv.v].map(|t| t.coded.total() / LAYERS),
        bits_per_element: [&kv.k, &kv.v].map(|t| t.bits_per_element),
    };
    kv.layers = vec![layer; LAYERS as usize];
    kv.spans_coded = kv.coded_frames / SPAN as u64;
    kv.encode_ms_per_span = 16.0;
    kv
}

fn memory(kv: &KvFigures) -> MemoryUse {
    let mut m = MemoryUse {
        weights_bytes: 9_243_392,
        cache_bytes: kv.exact_bytes + kv.unused_bytes,
        spans_bytes: kv.coded_bytes,
        activations_bytes: 638_640,
        scratch_bytes: 1_771_096,
        viewer_bytes: 12 << 20,
        ..MemoryUse::default()
    };
    m.device_bytes = m.weights_bytes
        + m.cache_bytes
        + m.spans_bytes
        + m.activations_bytes
        + m.scratch_bytes
        + m.viewer_bytes;
    m
}

/// What the film from text shows at first.
pub const FIRST: &str = "A red fox trots through deep snow between birches, the camera beside it";
/// What it shows from its third chunk on.
pub const SECOND: &str = "The fox stops and listens; evening light";
/// Bytes of a latent frame of the film from text in 16 bit.
const LATENT: u64 = 24 << 20;

/// A window with a film from text to be made, and a plan of it.
pub fn text_empty() -> State {
    let mut s = empty();
    s.choose_model(Some("self-forcing"));
    s.replan();
    s.effects.clear();
    s.hear(Message::Planned(Box::new(Ok(text_plan(&s.job)))));
    s
}

fn text_plan(job: &Job) -> Event {
    let Event::Plan { device, tier, .. } = plan(job) else {
        unreachable!("a plan is a plan")
    };
    Event::Plan {
        model: "self-forcing".into(),
        device,
        tier,
        seed: job.seed,
        frames: 81,
        given_frames: 0,
        chunks: 7,
        width: 832,
        height: 480,
        fps: 16,
        steps: 4,
        window: None,
        sink: 0,
        kv: Some("int4".into()),
        planned: MemoryUse {
            weights_bytes: 2_838_000_000,
            peak_device_bytes: 4_400_000_000,
            ..MemoryUse::default()
        },
        offload: Offload::default(),
        decoder_bands: 1,
        decoder_host_bytes: 0,
    }
}

/// A film from text of so many chunks; its prompt changes with the third. The pictures are an embedded walk's.
pub fn text_running(chunks: usize) -> State {
    let mut s = text_empty();
    if let Some(text) = &mut s.job.text {
        text.prompt = FIRST.into();
    }
    s.start();
    s.effects.clear();
    let film = SeedFilm::load(0).expect("it is embedded");
    let mut told = text_plan(&s.job);
    if let Event::Plan { width, height, .. } = &mut told {
        (*width, *height) = (64, 48);
    }
    s.hear(Message::Begun(Box::new(Begun {
        job: s.job.clone(),
        film_name: "self-forcing".into(),
        plan: told,
        given: Vec::new(),
        layers: 30,
        cell_frames: 4,
    })));
    for chunk in 0..chunks {
        let (first, n) = match chunk {
            0 => (0, 9),
            n => (12 * n - 3, 12),
        };
        let prompt = match chunk {
            0 => Some(FIRST),
            2 => Some(SECOND),
            _ => None,
        };
        if let Some(prompt) = prompt {
            if chunk > 0 {
                if let Some(text) = &mut s.job.text {
                    text.prompt = prompt.into();
                }
                s.apply();
                s.effects.clear();
                s.hear(Message::Prompt(Told::Encoding));
                s.hear(Message::Prompt(Told::Set {
                    frame: first,
                    prompt: prompt.into(),
                }));
            }
            s.hear(Message::Prompt(Told::InForce(Mark {
                frame: first,
                chunk: chunk as u32,
                prompt: prompt.into(),
            })));
        }
        let latents = 3 * (chunk as i64 + 1);
        let held: Vec<Held> = (0..=chunk as i64)
            .map(|c| Held {
                frames: 3 * c..3 * c + 3,
                bits: (c > 0 && c < chunk as i64).then_some([4, 4]),
            })
            .collect();
        let coded = held.iter().filter(|h| h.bits.is_some()).count() as u64 * 3;
        let exact = latents as u64 - coded;
        let mut kv = KvFigures {
            exact_frames: exact,
            coded_frames: coded,
            exact_bytes: exact * LATENT,
            coded_bytes: coded * LATENT * 43 / 160,
            half_bytes: latents as u64 * LATENT,
            spans_coded: coded / 3,
            encode_ms_per_span: 41.0,
            ..KvFigures::default()
        };
        for t in [&mut kv.k, &mut kv.v] {
            t.coded.codes = coded * LATENT / 4 / 2;
            t.coded.scales = coded * LATENT / 64 / 2;
        }
        kv.ratio = kv.half_bytes as f64 / (kv.exact_bytes + kv.coded_bytes) as f64;
        kv.bits_per_element = 16.0 / kv.ratio;
        let mut memory = memory(&kv);
        memory.weights_bytes = 2_838_000_000;
        memory.device_bytes += 2_838_000_000 - 9_243_392;
        let picture = |i: usize| film.frames[i % film.frames.len()].clone();
        s.hear(Message::Made(Box::new(Made {
            first,
            frames: (first..first + n)
                .map(|i| (picture(i), Pose::default(), Action::Stay.into()))
                .collect(),
            pictures: None,
            truth: Vec::new(),
            split: Split {
                denoise: 2.9,
                cache: 0.7,
                encode: 0.04,
                decode: 0.41,
                total: 4.1,
            },
            memory,
            other: 0,
            kv,
            held,
            drift: Vec::new(),
            errors: None,
            main_bytes: Some(812 << 20),
            undo_bytes: 0,
        })));
    }
    s
}
