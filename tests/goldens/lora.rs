//! A low-rank change worked in while a network is loaded: the passes must be those of a file that was changed beforehand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use longtake::cache::{KvCache, Policy};
use longtake::gpu::Device;
use longtake::model::config::{Cross, DitConfig};
use longtake::model::lora::Lora;
use longtake::model::{Activations, Dit, Loading, Pass, Tape, preset};
use longtake::ops::{KvFormat, WeightFormat};
use longtake::weights::{Dtype, Existing, Planned, Weights, Writer};

/// A tensor to write.
struct Named {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn write(path: &Path, tensors: &[Named]) {
    let planned: Vec<Planned> = (tensors.iter())
        .map(|t| Planned {
            name: t.name.clone(),
            dtype: Dtype::F32,
            shape: t.shape.clone(),
        })
        .collect();
    let mut writer = Writer::create(path, Existing::Replace, &BTreeMap::new(), &planned).unwrap();
    for t in tensors {
        let bytes: Vec<u8> = t.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write(&t.name, 0, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// `n` values over -1..1 that look random.
fn values(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("longtake-lora-{}-{name}", std::process::id()))
}

/// The prediction of one pass.
fn pass(device: &Device, dit: &Dit) -> Vec<f32> {
    let c = dit.config();
    let n = c.chunk_frames as usize;
    let mut act = Activations::new(device, c, n).unwrap();
    let shape = c.cache_shape(KvFormat::F32, n);
    let mut cache = KvCache::new(shape, device.caps(), Policy::default(), None);
    cache.begin(device, 0..n as i64).unwrap();
    let Cross::Separate { text_dim, .. } = c.cross else {
        panic!("a set of a network with text")
    };
    let prompt = values(7, 5 * text_dim as usize);
    let tape = &mut Tape::blank();
    let text = (dit.text(device, &act, &prompt, KvFormat::F32, tape)).unwrap();
    let len = n * (c.in_channels * c.latent_height * c.latent_width) as usize;
    device.write(&act.latents, 0, &values(8, len));
    let all = Pass {
        frames: 0..n as i64,
        timestep: 937.5,
        poses: &[],
        kv_only: false,
    };
    dit.forward(device, &mut act, &cache, Some(&text), &all, tape)
        .unwrap();
    device.read(&act.output, 0..len).unwrap()
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    let most = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let far = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    far.fold(0.0, f32::max) / most
}

pub fn run(config: &str, weights: &Path, device: &Device, title: &str) {
    let config = DitConfig::from_selfforcing_json(config).unwrap();
    let base = Weights::open(weights).unwrap();
    let change = preset::Lora {
        rank: 6,
        alpha: 3.0,
        part: "generator_lora".to_owned(),
    };
    let rank = change.rank as usize;
    let (mut lora, mut merged) = (Vec::new(), Vec::new());
    for (i, name) in (0..).zip(base.names()) {
        let view = base.get(name).unwrap();
        let (shape, mut all) = (view.shape().to_vec(), view.to_f32().unwrap());
        let layer = name.strip_suffix(".weight");
        let layer = layer.filter(|l| l.starts_with("blocks.") && !l.contains("norm"));
        if let Some(layer) = layer {
            let (n_out, n_in) = (shape[0], shape[1]);
            let small = |seed, n| -> Vec<f32> { values(seed, n).iter().map(|v| 0.2 * v).collect() };
            let (a, b) = (small(2 * i, rank * n_in), small(2 * i + 1, n_out * rank));
            for (at, w) in all.iter_mut().enumerate() {
                let (o, c) = (at / n_in, at % n_in);
                let product = |r| f64::from(b[o * rank + r]) * f64::from(a[r * n_in + c]);
                let sum: f64 = (0..rank).map(product).sum();
                *w = (f64::from(*w) + change.alpha / f64::from(change.rank) * sum) as f32;
            }
            let named = |part, shape, values| Named {
                name: format!("base_model.model.{layer}.{part}.weight"),
                shape,
                values,
            };
            lora.push(named("lora_A", vec![rank, n_in], a));
            lora.push(named("lora_B", vec![n_out, rank], b));
        }
        merged.push(Named {
            name: name.to_owned(),
            shape,
            values: all,
        });
    }
    let layers_of_a_block = 10;
    assert_eq!(lora.len(), 2 * layers_of_a_block * config.layers as usize);
    let at = |name: &str| scratch(&format!("{title}-{name}.safetensors"));
    write(&at("change"), &lora);
    write(&at("merged"), &merged);
    let opened = Lora::open(&at("change"), &config, &change).unwrap();
    let format = WeightFormat::F32;
    let how = Loading {
        lora: Some(&opened),
        ..Loading::plain(format)
    };
    let changed = Dit::load_as(device, &config, &base, &how).unwrap();
    let all_wait = Loading {
        offload: config.layers,
        ..how
    };
    let waiting = Dit::load_as(device, &config, &base, &all_wait).unwrap();
    let is_same = pass(device, &waiting) == pass(device, &changed);
    assert!(
        is_same,
        "layers that wait in main memory have the change too"
    );
    let beforehand = Weights::open(&at("merged")).unwrap();
    let beforehand = Dit::load(device, &config, &beforehand, format).unwrap();
    let plain = Dit::load(device, &config, &base, format).unwrap();
    let [changed, beforehand, plain] = [&changed, &beforehand, &plain].map(|dit| pass(device, dit));
    let far = farthest(&changed, &beforehand);
    assert!(far < 1e-5, "changed while loading: {far:.1e} off");
    let moved = farthest(&plain, &changed);
    assert!(
        moved > 1e-2,
        "the change changes hardly anything: {moved:.1e}"
    );
    // Of another rank, or with a layer missing, it is refused by name.
    let other = preset::Lora {
        rank: 8,
        ..change.clone()
    };
    let refused = Lora::open(&at("change"), &config, &other).unwrap_err();
    assert!(refused.to_string().contains("lora_A"), "{refused}");
    lora.pop();
    write(&at("change"), &lora);
    let refused = Lora::open(&at("change"), &config, &change).unwrap_err();
    assert!(refused.to_string().contains("lora_B"), "{refused}");
    for name in ["change", "merged"] {
        std::fs::remove_file(at(name)).unwrap();
    }
}
