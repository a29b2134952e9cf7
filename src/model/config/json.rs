//! The two config files that instances come from, and what they leave unsaid.

use serde::Deserialize;

use super::check::Error;
use super::{
    Cross, DitConfig, Family, FrameCondition, NewPose, Prediction, RopeConfig, SamplerConfig,
    TimeConfig,
};
use crate::codec::FineLayers;

/// `config.json` beside the demo world's weights.
#[derive(Deserialize)]
struct TinyFile {
    model: TinyModel,
    theta: f64,
    sampler_ts: Vec<f32>,
    new_pose: Option<NewPose>,
    noise_scale: f32,
    fps: u32,
    #[serde(default)]
    kv_fine: FineLayers,
}

/// An entry we do not know could change what the network computes, so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TinyModel {
    dim: u32,
    layers: u32,
    heads: u32,
    ffn_dim: u32,
    freq_dim: u32,
    height: u32,
    width: u32,
    patch: u32,
    pose_dim: u32,
    eps: f32,
}

/// A small reference model of the Self-Forcing family.
#[derive(Deserialize)]
struct SelfForcingFile {
    dit: SelfForcingModel,
    latent_h: u32,
    latent_w: u32,
    chunk: u32,
    steps: Vec<u32>,
    shift: f64,
    head_dim: Option<u32>,
    tokens_per_frame: Option<u32>,
}

/// See [`TinyModel`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelfForcingModel {
    dim: u32,
    num_heads: u32,
    ffn_dim: u32,
    num_layers: u32,
    freq_dim: u32,
    text_dim: u32,
    text_len: u32,
    in_dim: u32,
    out_dim: u32,
    eps: f32,
    patch_size: [u32; 3],
}

pub(super) fn tiny(text: &str) -> Result<DitConfig, Error> {
    let TinyFile {
        model,
        theta,
        sampler_ts,
        new_pose,
        noise_scale,
        fps,
        kv_fine,
    } = parse(text)?;
    let config = DitConfig {
        family: Family::Tiny,
        hidden: model.dim,
        layers: model.layers,
        heads: model.heads,
        ffn_hidden: model.ffn_dim,
        in_channels: 3,
        out_channels: 3,
        patch: [1, model.patch, model.patch],
        rope: RopeConfig::wan(theta, model.dim.checked_div(model.heads).unwrap_or(0)),
        eps: model.eps,
        time: TimeConfig {
            freq_dim: model.freq_dim,
            scale: 1000.0,
        },
        frame_condition: FrameCondition::Pose {
            dim: model.pose_dim,
        },
        cross: Cross::None,
        chunk_frames: 1,
        prediction: Prediction::Clean,
        sampler: SamplerConfig::EulerClean {
            ts: sampler_ts,
            noise_scale,
            new_pose,
        },
        latent_height: model.height,
        latent_width: model.width,
        cell_px: 1,
        cell_frames: 1,
        fps,
        kv_fine,
    };
    config.check()?;
    Ok(config)
}

pub(super) fn selfforcing(text: &str) -> Result<DitConfig, Error> {
    let file: SelfForcingFile = parse(text)?;
    let dit = file.dit;
    let published = DitConfig::selfforcing_1_3b();
    let config = DitConfig {
        hidden: dit.dim,
        layers: dit.num_layers,
        heads: dit.num_heads,
        ffn_hidden: dit.ffn_dim,
        in_channels: dit.in_dim,
        out_channels: dit.out_dim,
        patch: dit.patch_size,
        rope: RopeConfig::wan(
            published.rope.theta,
            dit.dim.checked_div(dit.num_heads).unwrap_or(0),
        ),
        eps: dit.eps,
        time: TimeConfig {
            freq_dim: dit.freq_dim,
            ..published.time
        },
        cross: Cross::Separate {
            text_dim: dit.text_dim,
            text_len: dit.text_len,
        },
        chunk_frames: file.chunk,
        sampler: SamplerConfig::Renoise {
            steps: file.steps,
            first_chunk_steps: None,
            warp: true,
            shift: file.shift,
            context_t: 0.0,
        },
        latent_height: file.latent_h,
        latent_width: file.latent_w,
        ..published
    };
    config.check()?;
    for (field, found, expected) in [
        ("head_dim", file.head_dim, config.head_dim()),
        (
            "tokens_per_frame",
            file.tokens_per_frame,
            config.tokens_per_frame(),
        ),
    ] {
        match found {
            Some(found) if found != expected => {
                return Err(Error::Stated {
                    field,
                    found,
                    expected,
                });
            }
            _ => {}
        }
    }
    Ok(config)
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|source| Error::Json { source })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The demo world's file, as shipped.
    pub(in super::super) fn tiny_file() -> Value {
        json!({
            "model": {
                "dim": 256, "layers": 6, "heads": 4, "ffn_dim": 768, "freq_dim": 256,
                "height": 48, "width": 64, "patch": 8, "pose_dim": 42, "eps": 1e-6
            },
            "theta": 10000.0, "sampler_ts": [1.0, 0.5, 0.0], "new_pose": {"ts": [1.0, 0.9, 0.0], "fresh_noise": 0.5, "noise_gain": 1.02}, "world": "rooms", "fps": 8, "noise_scale": 0.4,
            "kv_fine": {"v": [0]}
        })
    }

    /// A small model of the Self-Forcing family, with an entry for another part of the pipeline.
    pub(in super::super) fn selfforcing_file() -> Value {
        json!({
            "dit": {
                "dim": 128, "num_heads": 2, "ffn_dim": 192, "num_layers": 2, "freq_dim": 64, "text_dim": 64,
                "text_len": 16, "in_dim": 16, "out_dim": 16, "eps": 1e-6, "patch_size": [1, 2, 2]
            },
            "latent_h": 4, "latent_w": 6, "chunk": 3, "steps": [1000, 750, 500, 250], "shift": 5.0,
            "t5": {"vocab": 160}, "head_dim": 64, "tokens_per_frame": 6
        })
    }

    /// `file` with the value at `pointer` replaced.
    fn with(mut file: Value, pointer: &str, value: &Value) -> String {
        *file.pointer_mut(pointer).expect("no such entry") = value.clone();
        file.to_string()
    }

    #[test]
    fn demo_file_is_read_whole() {
        let config = DitConfig::from_tiny_json(&tiny_file().to_string()).unwrap();
        assert_eq!(
            (
                config.hidden,
                config.layers,
                config.heads,
                config.ffn_hidden
            ),
            (256, 6, 4, 768)
        );
        assert_eq!(
            (config.head_dim(), config.grid(), config.tokens_per_frame()),
            (64, (6, 8), 48)
        );
        assert_eq!((config.rope.split, config.rope.theta), ([24, 20, 20], 1e4));
        assert_eq!(
            (config.picture_px(), config.fps, config.chunk_frames),
            ((48, 64), 8, 1)
        );
        assert_eq!(
            (config.frame_condition, config.cross),
            (FrameCondition::Pose { dim: 42 }, Cross::None)
        );
        assert_eq!(
            (config.prediction, config.time.scale, config.eps),
            (Prediction::Clean, 1000.0, 1e-6)
        );
        assert_eq!(
            config.sampler,
            SamplerConfig::EulerClean {
                ts: vec![1.0, 0.5, 0.0],
                noise_scale: 0.4,
                new_pose: Some(NewPose {
                    ts: vec![1.0, 0.9, 0.0],
                    fresh_noise: 0.5,
                    noise_gain: 1.02,
                })
            }
        );
        assert_eq!(config.kv_bytes_per_frame(), 48 * 256 * 4 * 6);
        assert_eq!((config.kv_fine.k.len(), &config.kv_fine.v), (0, &vec![0]));
    }

    #[test]
    fn other_demo_sizes_work() {
        let mut file = tiny_file();
        file["model"] = json!({
            "dim": 72, "layers": 2, "heads": 6, "ffn_dim": 100, "freq_dim": 32,
            "height": 30, "width": 20, "patch": 5, "pose_dim": 7, "eps": 1e-5
        });
        let config = DitConfig::from_tiny_json(&file.to_string()).unwrap();
        assert_eq!(
            (config.head_dim(), config.grid(), config.rope.split),
            (12, (6, 4), [4, 4, 4])
        );
    }

    #[test]
    fn reference_file_is_read_whole() {
        let config = DitConfig::from_selfforcing_json(&selfforcing_file().to_string()).unwrap();
        assert_eq!(
            (
                config.hidden,
                config.layers,
                config.heads,
                config.ffn_hidden
            ),
            (128, 2, 2, 192)
        );
        assert_eq!(
            (
                config.grid(),
                config.tokens_per_frame(),
                config.chunk_frames
            ),
            ((2, 3), 6, 3)
        );
        assert_eq!(
            (config.time.freq_dim, config.time.scale, config.fps),
            (64, 1.0, 16)
        );
        assert_eq!(
            config.cross,
            Cross::Separate {
                text_dim: 64,
                text_len: 16
            }
        );
        assert_eq!(
            (config.prediction, config.rope.split),
            (Prediction::Velocity, [24, 20, 20])
        );
        let steps = vec![1000, 750, 500, 250];
        assert_eq!(
            config.sampler,
            SamplerConfig::Renoise {
                steps,
                first_chunk_steps: None,
                warp: true,
                shift: 5.0,
                context_t: 0.0
            }
        );
        for entry in ["/head_dim", "/tokens_per_frame"] {
            let text = with(selfforcing_file(), entry, &json!(7));
            assert!(matches!(
                DitConfig::from_selfforcing_json(&text),
                Err(Error::Stated { found: 7, .. })
            ));
        }
    }

    /// Holds the error for the demo's file, with `value` at `pointer`, to contain `said`.
    fn refused(pointer: &str, value: &Value, said: &str) {
        let found = DitConfig::from_tiny_json(&with(tiny_file(), pointer, value));
        let error = found.unwrap_err().to_string();
        assert!(error.contains(said), "{pointer} = {value}: {error}");
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_with_their_numbers() {
        for (pointer, value, said) in [
            ("/model/heads", 0, "heads is 0, expected 1 to 65536"),
            (
                "/model/heads",
                3,
                "hidden is 256, expected a multiple of heads = 3",
            ),
            ("/model/heads", 256, "hidden / heads is 1"),
            ("/model/heads", 64, "hidden / heads is 4"),
            ("/model/dim", 252, "hidden / heads is 63"),
            (
                "/model/dim",
                65_536,
                "25769803776 elements in time_projection.1.weight",
            ),
            ("/model/dim", u32::MAX, "hidden is 4294967295"),
            ("/model/layers", 1001, "layers is 1001, expected 1 to 1000"),
            ("/model/ffn_dim", 0, "ffn_hidden is 0"),
            (
                "/model/freq_dim",
                7,
                "freq_dim is 7, expected a multiple of",
            ),
            (
                "/model/height",
                49,
                "is 49, expected a multiple of patch height = 8",
            ),
            ("/model/width", 0, "width in latent cells is 0"),
            ("/model/patch", 0, "patch height is 0"),
            ("/model/patch", 7, "multiple of patch height = 7"),
            ("/model/pose_dim", 0, "pose_dim is 0"),
            ("/fps", 0, "fps is 0"),
        ] {
            refused(pointer, &json!(value), said);
        }
    }

    #[test]
    fn numbers_and_forms_that_cannot_be_are_refused() {
        for (pointer, value, said) in [
            ("/kv_fine", json!({"v": [0, 9]}), "kv_fine is 9"),
            ("/kv_fine", json!({"q": [0]}), "unknown field"),
            ("/model/eps", json!(0), "eps is 0"),
            ("/model/eps", json!(1e300), "eps is inf"),
            ("/theta", json!(1), "theta is 1"),
            ("/noise_scale", json!(-0.5), "noise_scale is -0.5"),
            ("/noise_scale", json!(1e39), "noise_scale is inf"),
            ("/model/dim", json!(-1), "not of the expected form"),
            ("/model/dim", json!(2.5), "not of the expected form"),
            ("/sampler_ts", json!("1, 0"), "not of the expected form"),
            ("/model", json!({}), "missing field `dim`"),
        ] {
            refused(pointer, &value, said);
        }
        let mut model = tiny_file()["model"].clone();
        model["qk_norm"] = json!(false);
        refused("/model", &model, "unknown field `qk_norm`");
    }

    #[test]
    fn products_beyond_32_bits_are_refused() {
        let mut file = tiny_file();
        file["model"]["height"] = json!(65_536);
        file["model"]["width"] = json!(65_536);
        let error = DitConfig::from_tiny_json(&file.to_string()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Elements {
                    found: 51_539_607_552,
                    ..
                }
            ),
            "{error}"
        );
        let text = with(selfforcing_file(), "/dit/patch_size", &json!([2, 2, 2]));
        assert!(matches!(
            DitConfig::from_selfforcing_json(&text),
            Err(Error::Size {
                field: "patch frames",
                ..
            })
        ));
        let text = with(selfforcing_file(), "/dit/in_dim", &json!(65_536));
        assert!(DitConfig::from_selfforcing_json(&text).is_ok());
    }

    #[test]
    fn shares_and_gains_of_noise_out_of_range_are_refused() {
        let wrong = [("fresh_noise", [-0.5, 1.5]), ("noise_gain", [-1.0, 2.5])];
        for (field, values) in wrong {
            let pointer = format!("/new_pose/{field}");
            for value in values {
                let error = DitConfig::from_tiny_json(&with(tiny_file(), &pointer, &json!(value)))
                    .unwrap_err()
                    .to_string();
                let named = pointer[1..].to_owned();
                assert!(
                    error.contains(&named) && error.contains(&value.to_string()),
                    "{error}"
                );
            }
        }
        let mut plain = tiny_file();
        plain["new_pose"] = json!({"ts": [1.0, 0.0]});
        let config = DitConfig::from_tiny_json(&plain.to_string()).unwrap();
        let SamplerConfig::EulerClean {
            new_pose: Some(new),
            ..
        } = config.sampler
        else {
            panic!("passes for new poses")
        };
        assert_eq!((new.fresh_noise, new.noise_gain), (0.0, 1.0));
    }

    #[test]
    fn schedules_that_do_not_fall_to_the_end_are_refused() {
        for (field, ts) in ["sampler_ts", "new_pose/ts"].into_iter().flat_map(|field| {
            [
                "[]",
                "[0]",
                "[1]",
                "[1,0.5]",
                "[1,1,0]",
                "[0.5,1,0]",
                "[1,0,0]",
                "[1.5,0]",
                "[1,-0.5]",
                "[1e99,0]",
            ]
            .map(|ts| (field, ts))
        }) {
            let ts: Value = serde_json::from_str(ts).unwrap();
            let found = DitConfig::from_tiny_json(&with(tiny_file(), &format!("/{field}"), &ts));
            assert!(
                matches!(&found, Err(Error::Schedule { field: named, .. }) if *named == field),
                "{field} {ts}"
            );
        }
        assert!(
            DitConfig::from_tiny_json(&with(tiny_file(), "/sampler_ts", &json!([0.7, 0]))).is_ok()
        );
        for steps in [
            json!([]),
            json!([0]),
            json!([1001]),
            json!([1000, 1000]),
            json!([500, 750]),
            json!([1000, 0]),
        ] {
            let found =
                DitConfig::from_selfforcing_json(&with(selfforcing_file(), "/steps", &steps));
            assert!(
                matches!(found, Err(Error::Schedule { field: "steps", .. })),
                "{steps}"
            );
        }
        let found =
            DitConfig::from_selfforcing_json(&with(selfforcing_file(), "/shift", &json!(0)));
        assert!(matches!(found, Err(Error::Number { field: "shift", .. })));
        let many: Vec<f64> = (0..2000).map(|i| 1.0 - f64::from(i) / 1999.0).collect();
        let error =
            DitConfig::from_tiny_json(&with(tiny_file(), "/sampler_ts", &json!(many))).unwrap_err();
        assert!(error.to_string().len() < 400, "{error}");
    }
}
