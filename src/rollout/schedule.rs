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
    /// The output is x0: `x = keep x + (1 - keep) x0`, an Euler step.
    Clean {
        /// Ratio of the next noise share to this one.
        keep: f32,
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
    /// Standard deviation of the starting noise.
    pub noise_scale: f32,
    /// Timestep told in the cache pass.
    pub context_timestep: f32,
    /// Finished latents are cut to -this..=this.
    pub limit: Option<f32>,
}

impl Schedule {
    /// Denoising passes of the chunk that begins with latent frame `first`.
    ///
    /// Source: Causal-Forcing, `denoising_step_list_first_chunk`: its own list for the film's first frame.
    #[must_use]
    pub fn steps_from(&self, first: i64) -> &[Step] {
        match &self.first_chunk {
            Some(steps) if first == 0 => steps,
            _ => &self.steps,
        }
    }

    /// The model's own schedule, or an Euler one with `steps` equal steps where the model can take it.
    ///
    /// # Errors
    /// A step count this model was not distilled for; the message names the legal ones.
    pub fn new(config: &DitConfig, steps: Option<u32>) -> Result<Schedule, String> {
        match &config.sampler {
            SamplerConfig::EulerClean { ts, noise_scale } => {
                let ts = match steps {
                    None => ts.clone(),
                    Some(n @ 1..=1000) => (0..=n).map(|i| 1.0 - i as f32 / n as f32).collect(),
                    Some(n) => return Err(format!("--steps {n} is not between 1 and 1000")),
                };
                Ok(Schedule::euler(&ts, *noise_scale, config.time.scale as f32))
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

    fn euler(ts: &[f32], noise_scale: f32, time_scale: f32) -> Schedule {
        let step = |p: &[f32]| Step {
            timestep: time_scale * p[0],
            update: Update::Clean { keep: p[1] / p[0] },
        };
        Schedule {
            steps: ts.windows(2).map(step).collect(),
            first_chunk: None,
            noise_scale,
            context_timestep: 0.0,
            limit: Some(1.0),
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
            noise_scale: 1.0,
            context_timestep: context_t,
            limit: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let of = |first| -> Vec<f32> { s.steps_from(first).iter().map(|s| s.timestep).collect() };
        assert_eq!(of(0).len(), 3);
        assert_eq!(of(1).len(), 2);
        assert!((of(0)[1] - 937.5).abs() < 1e-3 && (of(1)[1] - 833.3333).abs() < 1e-3);
        // The last pass of either list adds no noise.
        for first in [0, 1] {
            let last = s.steps_from(first).last().unwrap();
            assert!(matches!(
                last.update,
                Update::Velocity { renoise: None, .. }
            ));
        }
        let plain = Schedule::renoise(&[1000, 500], None, true, 5.0, 0.0);
        assert_eq!(plain.steps_from(0), plain.steps_from(3));
    }

    #[test]
    fn euler_ends_at_the_clean_frame() {
        let s = Schedule::euler(&[1.0, 0.5, 0.0], 0.4, 1000.0);
        assert_eq!(
            s.steps[0],
            Step {
                timestep: 1000.0,
                update: Update::Clean { keep: 0.5 }
            }
        );
        assert_eq!(
            s.steps[1],
            Step {
                timestep: 500.0,
                update: Update::Clean { keep: 0.0 }
            }
        );
    }
}
