//! What must hold before sizes are believed: whatever divides, divides; whatever is indexed with 32 bits, fits.

use crate::ops::Positions;

use super::{Cross, DitConfig, FrameCondition, SamplerConfig};

/// Largest width or side. Together with [`check_elements`] it keeps every later product inside its type.
const MAX_SIZE: u32 = 65_536;
/// Most layers; a thousand is far beyond any published network.
const MAX_LAYERS: u32 = 1000;
/// Most entries in a sampler's list, latent frames in a chunk, and pictures a second.
const MAX_COUNT: u32 = 1000;
/// Fewest channels of a head: a pair each for frame, row and column, and whole groups of four as kernels load them.
const MIN_HEAD_DIM: u32 = 8;

/// Why a model's config was refused. Texts name the field; the caller knows the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON of the expected form.
    #[error(
        "the model config is not of the expected form ({source}); use the config.json that came with the weights"
    )]
    Json {
        /// What the reader said, with line and column.
        source: serde_json::Error,
    },
    /// A size out of range.
    #[error("the model config's {field} is {found}, expected 1 to {limit}")]
    Size {
        /// The field, as [`DitConfig`] calls it.
        field: &'static str,
        /// Its value.
        found: u32,
        /// The largest that is accepted.
        limit: u32,
    },
    /// A size that another one must divide.
    #[error("the model config's {field} is {found}, expected a multiple of {by} = {divisor}")]
    Uneven {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u32,
        /// What must divide it.
        by: &'static str,
        /// The value of that.
        divisor: u32,
    },
    /// Heads too narrow for position embedding, which turns pairs of channels along three axes, or of no whole quads.
    #[error(
        "the model config's hidden / heads is {found}, expected a multiple of 4, at least {MIN_HEAD_DIM}"
    )]
    HeadDim {
        /// Channels of a head.
        found: u32,
    },
    /// Shares of a head's channels that do not fit it.
    #[error(
        "the model config's rope split is {found:?}, expected three even numbers above 0 with the sum {head_dim}"
    )]
    RopeSplit {
        /// Channels for frame, row, column.
        found: [u32; 3],
        /// Channels of a head.
        head_dim: u32,
    },
    /// A picture with more rows and columns of tokens than a rotation table holds beside a frame.
    #[error(
        "the model config's picture has {rows} x {cols} tokens, too many for one rotation table; make it smaller"
    )]
    Grid {
        /// Rows of tokens.
        rows: u32,
        /// Columns of tokens.
        cols: u32,
    },
    /// A number out of range.
    #[error("the model config's {field} is {found}, expected {expected}")]
    Number {
        /// The field.
        field: &'static str,
        /// Its value.
        found: f64,
        /// The range in words.
        expected: &'static str,
    },
    /// A sampler's list that is no schedule.
    #[error("the model config's {field} is {found:?}, expected {expected}")]
    Schedule {
        /// The field.
        field: &'static str,
        /// The list.
        found: Vec<f64>,
        /// What a list must be, in words.
        expected: &'static str,
    },
    /// An array with more elements than a shader can index.
    #[error(
        "the model config asks for {found} elements in {what}, expected at most {}; make the sizes smaller",
        u32::MAX
    )]
    Elements {
        /// The array.
        what: &'static str,
        /// Its elements.
        found: u128,
    },
    /// A figure the file states about itself that its sizes contradict.
    #[error("the model config states {field} = {found}, its sizes give {expected}")]
    Stated {
        /// The field.
        field: &'static str,
        /// What the file states.
        found: u32,
        /// What follows from the sizes.
        expected: u32,
    },
}

impl DitConfig {
    /// Holds the config to everything that the rest of the program takes for granted: non-zero sizes that divide as they
    /// must, numbers in their ranges, a schedule that falls to its end, and no array beyond 32-bit indices.
    ///
    /// # Errors
    /// The first thing that does not hold, with its value and what was expected.
    pub fn check(&self) -> Result<(), Error> {
        self.check_sizes()?;
        multiple("hidden", self.hidden, "heads", self.heads)?;
        let head_dim = self.head_dim();
        if !head_dim.is_multiple_of(4) || head_dim < MIN_HEAD_DIM {
            return Err(Error::HeadDim { found: head_dim });
        }
        let found = self.rope.split;
        let sum: u64 = found.iter().map(|part| u64::from(*part)).sum();
        if sum != u64::from(head_dim)
            || found
                .iter()
                .any(|part| !part.is_multiple_of(2) || *part == 0)
        {
            return Err(Error::RopeSplit { found, head_dim });
        }
        let [_, patch_height, patch_width] = self.patch;
        multiple(
            "height in latent cells",
            self.latent_height,
            "patch height",
            patch_height,
        )?;
        multiple(
            "width in latent cells",
            self.latent_width,
            "patch width",
            patch_width,
        )?;
        multiple("freq_dim", self.time.freq_dim, "a cosine and a sine", 2)?;
        let eps = f64::from(self.eps);
        number(
            "eps",
            eps,
            0.0 < eps && eps < 1.0,
            "a number between 0 and 1, both excluded",
        )?;
        number(
            "theta",
            self.rope.theta,
            1.0 < self.rope.theta,
            "a finite number above 1",
        )?;
        number(
            "time scale",
            self.time.scale,
            0.0 < self.time.scale,
            "a finite number above 0",
        )?;
        self.sampler.check()?;
        self.check_elements()?;
        let (rows, cols) = self.grid();
        if Positions::capacity(self.rope_split(), rows as usize, cols as usize) == 0 {
            return Err(Error::Grid { rows, cols });
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), Error> {
        let [patch_frames, patch_height, patch_width] = self.patch;
        let (pose_dim, text_dim, text_len) = self.condition_sizes();
        for (field, found, limit) in [
            ("hidden", self.hidden, MAX_SIZE),
            ("layers", self.layers, MAX_LAYERS),
            ("heads", self.heads, MAX_SIZE),
            ("ffn_hidden", self.ffn_hidden, MAX_SIZE),
            ("in_channels", self.in_channels, MAX_SIZE),
            ("out_channels", self.out_channels, MAX_SIZE),
            ("patch frames", patch_frames, 1),
            ("patch height", patch_height, MAX_SIZE),
            ("patch width", patch_width, MAX_SIZE),
            ("freq_dim", self.time.freq_dim, MAX_SIZE),
            ("pose_dim", pose_dim, MAX_SIZE),
            ("text_dim", text_dim, MAX_SIZE),
            ("text_len", text_len, MAX_SIZE),
            ("chunk_frames", self.chunk_frames, MAX_COUNT),
            ("height in latent cells", self.latent_height, MAX_SIZE),
            ("width in latent cells", self.latent_width, MAX_SIZE),
            ("cell_px", self.cell_px, MAX_COUNT),
            ("cell_frames", self.cell_frames, MAX_COUNT),
            ("fps", self.fps, MAX_COUNT),
        ] {
            if found == 0 || limit < found {
                return Err(Error::Size {
                    field,
                    found,
                    limit,
                });
            }
        }
        self.check_fine_layers()
    }

    fn check_fine_layers(&self) -> Result<(), Error> {
        let mut layers = self.kv_fine.k.iter().chain(&self.kv_fine.v);
        match layers.find(|layer| **layer >= self.layers) {
            Some(layer) => Err(Error::Number {
                field: "kv_fine",
                found: f64::from(*layer),
                expected: "layers of the model, counted from 0",
            }),
            None => Ok(()),
        }
    }

    /// `pose_dim`, `text_dim` and `text_len`; 1 for those this network does not have.
    fn condition_sizes(&self) -> (u32, u32, u32) {
        let pose_dim = match self.frame_condition {
            FrameCondition::None => 1,
            FrameCondition::Pose { dim } => dim,
        };
        match self.cross {
            Cross::None => (pose_dim, 1, 1),
            Cross::Separate { text_dim, text_len } => (pose_dim, text_dim, text_len),
        }
    }

    /// The arrays that grow fastest; every other one is a part of one of these. Sizes are checked, so u128 holds any product.
    fn check_elements(&self) -> Result<(), Error> {
        let (hidden, frames) = (self.hidden, self.chunk_frames);
        let [_, patch_height, patch_width] = self.patch;
        let (rows, cols) = self.grid();
        let (height, width) = (self.latent_height, self.latent_width);
        let (pose_dim, text_dim, text_len) = self.condition_sizes();
        for (what, sizes) in [
            (
                "patch_embedding.weight",
                [hidden, self.in_channels, patch_height, patch_width],
            ),
            (
                "time_embedding.0.weight",
                [hidden, self.time.freq_dim, 1, 1],
            ),
            ("time_projection.1.weight", [6, hidden, hidden, 1]),
            ("pose_embedding.weight", [hidden, pose_dim, 1, 1]),
            ("text_embedding.0.weight", [hidden, text_dim, 1, 1]),
            ("blocks.0.ffn.0.weight", [self.ffn_hidden, hidden, 1, 1]),
            (
                "head.head.weight",
                [patch_height, patch_width, self.out_channels, hidden],
            ),
            (
                "the text of a prompt",
                [text_len, text_dim.max(hidden), 1, 1],
            ),
            (
                "the tokens of a chunk",
                [frames, rows, cols, self.ffn_hidden.max(hidden)],
            ),
            (
                "the latents of a chunk",
                [
                    frames,
                    height,
                    width,
                    self.in_channels.max(self.out_channels),
                ],
            ),
            (
                "the pixels of a picture",
                [3, height * self.cell_px, width * self.cell_px, 1],
            ),
        ] {
            let found = sizes.iter().map(|size| u128::from(*size)).product();
            if u128::from(u32::MAX) < found {
                return Err(Error::Elements { what, found });
            }
        }
        Ok(())
    }
}

impl SamplerConfig {
    /// The part of [`DitConfig::check`] that a changed sampler needs.
    ///
    /// # Errors
    /// The first thing that does not hold, with its value and what was expected.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::EulerClean {
                ts,
                noise_scale,
                new_pose,
            } => {
                let new = new_pose.iter().map(|new| ("new_pose/ts", &new.ts));
                for (field, ts) in [("sampler_ts", ts)].into_iter().chain(new) {
                    let in_range = ts.len() >= 2 && ts.iter().all(|t| (0.0..=1.0).contains(t));
                    let falls = ts.is_sorted_by(|a, b| b < a) && ts.last() == Some(&0.0);
                    let expected =
                        "2 to 1000 numbers from at most 1 down to 0, each below the one before";
                    let found = ts.iter().map(|t| f64::from(*t)).collect();
                    schedule(field, found, in_range && falls, expected)?;
                }
                let noise_scale = f64::from(*noise_scale);
                number(
                    "noise_scale",
                    noise_scale,
                    0.0 <= noise_scale,
                    "a finite number, 0 or above",
                )?;
                let Some(new) = new_pose else {
                    return Ok(());
                };
                number(
                    "new_pose/fresh_noise",
                    f64::from(new.fresh_noise),
                    (0.0..=1.0).contains(&new.fresh_noise),
                    "a number in 0 to 1",
                )?;
                number(
                    "new_pose/noise_gain",
                    f64::from(new.noise_gain),
                    0.0 < new.noise_gain && new.noise_gain <= 2.0,
                    "a number above 0, at most 2",
                )
            }
            Self::Renoise {
                steps,
                first_chunk_steps,
                shift,
                context_t,
                ..
            } => {
                let first = first_chunk_steps.iter().map(|s| ("first_chunk_steps", s));
                for (field, steps) in [("steps", steps)].into_iter().chain(first) {
                    let in_range =
                        !steps.is_empty() && steps.iter().all(|step| (1..=1000).contains(step));
                    let falls = steps.is_sorted_by(|a, b| b < a);
                    let expected =
                        "1 to 1000 whole numbers in 1 to 1000, each below the one before";
                    let found = steps.iter().map(|step| f64::from(*step)).collect();
                    schedule(field, found, in_range && falls, expected)?;
                }
                number("shift", *shift, 0.0 < *shift, "a finite number above 0")?;
                let context_t = f64::from(*context_t);
                number(
                    "context_t",
                    context_t,
                    (0.0..=1000.0).contains(&context_t),
                    "a number in 0 to 1000",
                )
            }
        }
    }
}

/// Refuses `found` unless `divisor` divides it. `by` says what the divisor is.
pub(super) fn multiple(
    field: &'static str,
    found: u32,
    by: &'static str,
    divisor: u32,
) -> Result<(), Error> {
    if found.is_multiple_of(divisor) {
        Ok(())
    } else {
        Err(Error::Uneven {
            field,
            found,
            by,
            divisor,
        })
    }
}

fn number(
    field: &'static str,
    found: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), Error> {
    if holds && found.is_finite() {
        Ok(())
    } else {
        Err(Error::Number {
            field,
            found,
            expected,
        })
    }
}

fn schedule(
    field: &'static str,
    mut found: Vec<f64>,
    holds: bool,
    expected: &'static str,
) -> Result<(), Error> {
    if holds && found.len() <= MAX_COUNT as usize {
        return Ok(());
    }
    // Enough to see what is wrong; a list of a million entries would bury the message.
    found.truncate(8);
    Err(Error::Schedule {
        field,
        found,
        expected,
    })
}
