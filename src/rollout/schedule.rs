//! Timesteps, sigmas, and what follows each denoising pass. Source: SELF-FORCING 6.1, 6.2; `train/film.py`.

use crate::model::config::{DitConfig, Prediction, SamplerConfig};

/// Training timesteps of the flow schedules.
const N_TIMESTEPS: usize = 1000;

/// The shifted flow schedule: 1000 noise shares and the timesteps they are looked up by. f32 throughout, as the models
/// were trained with, so that nearest-entry look-ups agree.
#[derive(Debug, Clone)]
pub struct SigmaTable {
    sigmas: Vec<f32>,
}

impl SigmaTable {
    /// The table for a shift > 0: `shift s / (1 + (shift - 1) s)` over s = 1, 0.999, .., 0.001.
    pub fn new(shift: f64) -> SigmaTable {
        SigmaTable::with_steps(shift, N_TIMESTEPS)
    }

    /// The same with `n` entries, as multi-step samplers take it.
    pub fn with_steps(shift: f64, n: usize) -> SigmaTable {
        let shift = shift as f32;
        let sigma = |i: usize| {
            let s = 1.0 - i as f32 / n as f32;
            shift * s / (1.0 + (shift - 1.0) * s)
        };
        SigmaTable {
            sigmas: (0..n).map(sigma).collect(),
        }
    }

    /// Noise shares, from 1 down.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// Timestep of an entry, 0..=1000.
    pub fn timestep(&self, index: usize) -> f32 {
        N_TIMESTEPS as f32 * self.sigmas[index]
    }

    /// Timestep that a listed step 0..=1000 is warped to; 0 stays 0.
    pub fn warp(&self, listed: u32) -> f32 {
        match listed {
            0 => 0.0,
            step => self.timestep(
                N_TIMESTEPS
                    .saturating_sub(step as usize)
                    .min(N_TIMESTEPS - 1),
            ),
        }
    }

    /// Entry whose timestep is nearest to `t`; the first of equals.
    pub fn index(&self, t: f32) -> usize {
        let mut best = (0, f32::INFINITY);
        for i in 0..self.sigmas.len() {
            let distance = (self.timestep(i) - t).abs();
            if distance < best.1 {
                best = (i, distance);
            }
        }
        best.0
    }

    /// Noise share of the entry nearest to `t`. 0 looks up the last entry, not 0.
    pub fn sigma(&self, t: f32) -> f32 {
        self.sigmas[self.index(t)]
    }
}

/// What turns a pass's output into the next pass's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Update {
    /// The output is noise - x0: `x0 = x - sigma output`, then fresh noise at `renoise` if there is a next pass.
    Velocity {
        /// Noise share of this pass.
        sigma: f32,
        /// Noise share of the next pass.
        renoise: Option<f32>,
    },
    /// The output is x0: `x = keep x + take x0`, an Euler step, then fresh noise where there is some.
    Clean {
        /// Share of what went in; without fresh noise and gain the ratio of the next noise share to this one. If this and `fresh` are 0,
        /// this was the last pass.
        keep: f32,
        /// Share of the output.
        take: f32,
        /// Standard deviation of fresh noise.
        fresh: f32,
    },
}

/// One denoising pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Timestep told to the network, 0..=1000.
    pub timestep: f32,
    /// What follows.
    pub update: Update,
}

/// The passes of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Denoising passes in order.
    pub steps: Vec<Step>,
    /// Those of the chunk that begins the film, where they are others.
    pub first_chunk: Option<Vec<Step>>,
    /// Those of a chunk at a pose that nothing in attention's reach was made at, where they are others.
    pub new_pose: Option<Vec<Step>>,
    /// Standard deviation of the starting noise.
    pub noise_scale: f32,
    /// Timestep told in the cache pass.
    pub context_timestep: f32,
    /// Finished latents are cut to -this..=this.
    pub limit: Option<f32>,
}

impl Schedule {
    /// Denoising passes of the chunk that begins with latent frame `first`, whose pose is new to what attention sees, or not.
    ///
    /// Source: Causal-Forcing, `denoising_step_list_first_chunk`: its own list for the film's first frame. New poses: what was seen
    /// needs few passes to be recalled, and what was not needs many to be made up.
    #[must_use]
    pub fn steps_of(&self, first: i64, is_new: bool) -> &[Step] {
        match (&self.first_chunk, &self.new_pose) {
            (Some(steps), _) if first == 0 => steps,
            (_, Some(steps)) if is_new => steps,
            _ => &self.steps,
        }
    }

    /// The model's own schedule, or an Euler one with `steps` equal steps for all chunks, where the model can take it. As many
    /// steps as the model has are the model's own.
    ///
    /// # Errors
    /// A step count this model was not distilled for; the message names the legal ones.
    pub fn new(config: &DitConfig, steps: Option<u32>) -> Result<Schedule, String> {
        match &config.sampler {
            SamplerConfig::EulerClean {
                ts,
                noise_scale,
                new_pose,
            } => {
                let own = config.sampler.n_passes();
                let equal: Vec<f32>;
                let (ts, new_pose) = match steps {
                    Some(n) if n as usize != own => {
                        if !(1..=1000).contains(&n) {
                            return Err(format!("--steps {n} is not between 1 and 1000"));
                        }
                        equal = (0..=n).map(|i| 1.0 - i as f32 / n as f32).collect();
                        (&equal, None)
                    }
                    _ => (ts, new_pose.as_ref()),
                };
                let steps = |ts: &[f32], fresh: f32, gain: f32| {
                    let scale = config.time.scale as f32;
                    euler(ts, scale, fresh, gain, *noise_scale)
                };
                Ok(Schedule {
                    steps: steps(ts, 0.0, 1.0),
                    first_chunk: None,
                    new_pose: new_pose.map(|new| steps(&new.ts, new.fresh_noise, new.noise_gain)),
                    noise_scale: *noise_scale,
                    context_timestep: 0.0,
                    limit: Some(1.0),
                })
            }
            SamplerConfig::Renoise {
                steps: listed,
                first_chunk_steps,
                warp,
                shift,
                context_t,
            } => match steps {
                Some(n) if n as usize != listed.len() => Err(format!(
                    "this model was distilled for {} steps and cannot take --steps {n}",
                    listed.len()
                )),
                _ => {
                    debug_assert_eq!(
                        config.prediction,
                        Prediction::Velocity,
                        "the configuration's check pairs them"
                    );
                    let first = first_chunk_steps.as_deref();
                    Ok(Schedule::renoise(listed, first, *warp, *shift, *context_t))
                }
            },
        }
    }

    /// `listed`: steps of every chunk, and of the first one where they are others.
    fn renoise(
        listed: &[u32],
        first_chunk: Option<&[u32]>,
        warp: bool,
        shift: f64,
        context_t: f32,
    ) -> Schedule {
        let table = SigmaTable::new(shift);
        let steps = |listed: &[u32]| -> Vec<Step> {
            let ts: Vec<f32> = listed
                .iter()
                .map(|s| if warp { table.warp(*s) } else { *s as f32 })
                .collect();
            let step = |(i, t): (usize, &f32)| Step {
                timestep: *t,
                update: Update::Velocity {
                    sigma: table.sigma(*t),
                    renoise: ts.get(i + 1).map(|t| table.sigma(*t)),
                },
            };
            ts.iter().enumerate().map(step).collect()
        };
        Schedule {
            steps: steps(listed),
            first_chunk: first_chunk.map(steps),
            new_pose: None,
            noise_scale: 1.0,
            context_timestep: context_t,
            limit: None,
        }
    }
}

/// The passes between falling noise shares. A frame with the noise share t is `(1 - t) x0 + t n`: from the n that is left after a
/// pass, the share `fresh` of its standard deviation `noise_scale` is drawn anew, and the rest is made `gain` times as strong.
fn euler(ts: &[f32], time_scale: f32, fresh: f32, gain: f32, noise_scale: f32) -> Vec<Step> {
    let step = |p: &[f32]| {
        let (now, then) = (p[0], p[1]);
        let keep = then / now * gain * (1.0 - fresh * fresh).sqrt();
        Step {
            timestep: time_scale * now,
            update: Update::Clean {
                keep,
                take: (1.0 - then) - keep * (1.0 - now),
                fresh: then * fresh * noise_scale,
            },
        }
    };
    ts.windows(2).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::NewPose;
    use crate::rollout::ModelSource;

    #[test]
    fn warped_steps_of_shift_5() {
        let t = SigmaTable::new(5.0);
        let warped: Vec<f32> = [1000, 750, 500, 250, 0]
            .iter()
            .map(|s| t.warp(*s))
            .collect();
        for (got, want) in warped.iter().zip([1000.0, 937.5, 833.3333, 625.0, 0.0]) {
            assert!((got - want).abs() < 1e-3, "{got} {want}");
        }
        assert!(
            (t.sigma(0.0) - 0.00498).abs() < 1e-5,
            "0 looks up the last entry"
        );
    }

    #[test]
    fn the_first_chunk_of_a_film_may_have_its_own_list() {
        let s = Schedule::renoise(&[1000, 500], Some(&[1000, 750, 250]), true, 5.0, 0.0);
        let of = |first| -> Vec<f32> {
            s.steps_of(first, false)
                .iter()
                .map(|s| s.timestep)
                .collect()
        };
        assert_eq!(of(0).len(), 3);
        assert_eq!(of(1).len(), 2);
        assert!((of(0)[1] - 937.5).abs() < 1e-3 && (of(1)[1] - 833.3333).abs() < 1e-3);
        // The last pass of either list adds no noise.
        for first in [0, 1] {
            let last = s.steps_of(first, false).last().unwrap();
            assert!(matches!(
                last.update,
                Update::Velocity { renoise: None, .. }
            ));
        }
        let plain = Schedule::renoise(&[1000, 500], None, true, 5.0, 0.0);
        assert_eq!(plain.steps_of(0, true), plain.steps_of(3, false));
    }

    #[test]
    fn euler_ends_at_the_clean_frame() {
        let step = |timestep, keep, take, fresh| Step {
            timestep,
            update: Update::Clean { keep, take, fresh },
        };
        let passes = euler(&[1.0, 0.5, 0.0], 1000.0, 0.0, 1.0, 0.4);
        let last = step(500.0, 0.0, 1.0, 0.0);
        assert_eq!(passes, [step(1000.0, 0.5, 0.5, 0.0), last]);
        // Where all noise is new, nothing of what went in is left.
        let passes = euler(&[1.0, 0.5, 0.0], 1000.0, 1.0, 1.0, 0.4);
        assert_eq!(passes, [step(1000.0, 0.0, 0.5, 0.2), last]);
    }

    #[test]
    fn fresh_noise_leaves_the_noise_share_as_it_is_and_a_gain_raises_it() {
        let (now, then, scale) = (0.8f32, 0.5, 0.4);
        // Of a frame x0 with noise, both known, after a pass: the share of x0, and the deviations of old and of fresh noise.
        let after = |share, gain| -> (f32, f32, f32) {
            let [step] = euler(&[now, then], 1000.0, share, gain, scale)[..] else {
                panic!("one pass")
            };
            let Update::Clean { keep, take, fresh } = step.update else {
                panic!("an Euler step")
            };
            (keep * (1.0 - now) + take, keep * now * scale, fresh)
        };
        let (clean, old, fresh) = after(0.6, 1.0);
        assert!((clean - (1.0 - then)).abs() < 1e-6);
        assert!((old.hypot(fresh) - then * scale).abs() < 1e-6);
        let (same, stronger, fresh_still) = after(0.6, 1.1);
        assert!((same - clean).abs() < 1e-6 && fresh_still == fresh);
        assert!((stronger / old - 1.1).abs() < 1e-6);
    }

    #[test]
    fn a_new_pose_takes_its_own_list_unless_another_number_of_steps_is_asked_for() {
        let mut config = ModelSource::rooms().unwrap().config;
        config.sampler = SamplerConfig::EulerClean {
            ts: vec![1.0, 0.4, 0.0],
            noise_scale: 0.4,
            new_pose: Some(NewPose {
                ts: vec![1.0, 0.9, 0.6, 0.0],
                fresh_noise: 0.5,
                noise_gain: 1.0,
            }),
        };
        let timesteps = |steps, is_new| -> Vec<f32> {
            let schedule = Schedule::new(&config, steps).unwrap();
            let passes = schedule.steps_of(9, is_new);
            passes.iter().map(|s| s.timestep).collect()
        };
        for own in [None, Some(2)] {
            assert_eq!(timesteps(own, false), [1000.0, 400.0]);
            assert_eq!(timesteps(own, true), [1000.0, 900.0, 600.0]);
        }
        for is_new in [false, true] {
            assert_eq!(timesteps(Some(4), is_new), [1000.0, 750.0, 500.0, 250.0]);
        }
        assert!(Schedule::new(&config, Some(0)).is_err());
    }
}
