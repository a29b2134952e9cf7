//! Which settings of a film fit into how much memory. Pure: the plan itself, asked for other codecs and windows.
//!
//! What is given up, in this order: time, by a decoder that makes its pictures in bands and by layers that wait in main memory
//! ([`Config::offload`]), as few of both as do, since that changes no byte of the film; bits of the cache, with spans as long as a
//! chunk where the usual ones do not fit or save less than half as much; then the window. Sizes, lengths, steps and the storage of
//! weights are the user's, and stay.

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde::Serialize;

use super::config::{Coded, Config};
use super::error::Error;
use super::event::{MemoryUse, Offload};
use super::plan::{Outline, Plan, mib};
use super::schedule::Schedule;
use crate::codec::KvPair;
use crate::decode::DecoderShape;
use crate::gpu::{Caps, Kind};
use crate::model::{Dit, Work};
use crate::ops::{KvFormat, WeightFormat};

/// Codecs that are tried, widest first.
pub const LADDER: [&str; 4] = ["int8", "int4", "int3", "int2"];

/// Latent frames of the widest window of coded frames that is looked for.
const WIDEST: u32 = 8192;

/// What a card is taken to bind at once where only its memory is known: half of what WebGPU reports for cards of today.
const CARD_BINDING: u64 = 1 << 30;

/// A discrete card of so much memory, of which nothing else is known.
#[must_use]
pub fn card(bytes: u64) -> Caps {
    Caps {
        name: match bytes {
            u64::MAX => "any card".to_owned(),
            bytes => format!("a card of {}", mib(bytes)),
        },
        driver: String::new(),
        backend: "assumed".into(),
        kind: Kind::Discrete,
        max_buffer_bytes: CARD_BINDING,
        max_binding_bytes: CARD_BINDING,
        memory_bytes: Some(bytes),
        ..Caps::floor()
    }
}

/// What a film takes.
#[derive(Debug, Clone, Serialize)]
pub struct Needs {
    /// Device bytes by purpose, those of the decoder among them.
    pub memory: MemoryUse,
    /// Keys and values of the text, among those of the cache.
    pub text_bytes: u64,
    /// Beside what is always there, for what is read back.
    pub staging_bytes: u64,
    /// Of the decoder, among weights and activations.
    pub decoder_bytes: u64,
    /// Bands of rows that the decoder makes a picture in.
    pub decoder_bands: usize,
    /// What of them waits on the host.
    pub decoder_host_bytes: u64,
    /// While the prompt is encoded, before anything else is there.
    pub text_encoder_bytes: u64,
    /// Layers that wait in main memory.
    pub offload: Offload,
    /// Bytes that all passes upload for them.
    pub upload_bytes: u64,
    /// Latent frames that attention sees at most.
    pub visible_frames: usize,
    /// Denoising steps of a chunk.
    pub steps: u32,
    /// Chunks.
    pub chunks: u32,
    /// Operations of all passes.
    pub work: Work,
    /// Operations of the decoder.
    pub decoder_flop: f64,
}

/// How much of what was asked for fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Everything.
    Asked,
    /// A window of so many latent frames at most.
    Window(u32),
    /// Not even the sink and a chunk.
    Nothing,
}

/// A setting of the cache and what becomes of the film under it.
#[derive(Debug, Clone, Serialize)]
pub struct Choice {
    /// Name of the codecs; `None`: nothing is coded.
    pub kv: Option<String>,
    /// Latent frames of a span, where it is not the usual one.
    pub span: Option<u32>,
    /// Bytes of the cache under what was asked for, exact and coded.
    pub cache_bytes: u64,
    /// Peak of the film as it was asked for.
    pub peak_bytes: u64,
    /// How far it fits; `None`: the memory is not known.
    pub reach: Option<Reach>,
    /// Layers that wait in main memory for it to reach so far: as many as were asked for, or the fewest that do.
    pub offload: u32,
    /// Bytes that every pass uploads for them.
    pub pass_bytes: u64,
    #[serde(skip)]
    coded: Option<Coded>,
}

impl Choice {
    /// The flags that ask for it.
    #[must_use]
    pub fn flags(&self) -> String {
        let mut text = match &self.kv {
            None => "--kv off".to_owned(),
            Some(kv) => match kv.split_once('/') {
                None => format!("--kv {kv}"),
                Some((k, v)) => format!("--kv-k {k} --kv-v {v}"),
            },
        };
        if let Some(span) = self.span {
            let _ = write!(text, " --kv-span {span}");
        }
        if 0 < self.offload {
            let _ = write!(text, " --offload {}", self.offload);
        }
        if let Some(Reach::Window(frames)) = self.reach {
            let _ = write!(text, " --window {frames}");
        }
        text
    }

    /// `config` under this setting.
    #[must_use]
    pub fn apply(&self, config: &Config) -> Config {
        let mut config = with(config, self.coded.as_ref());
        config.offload = self.offload;
        if let Some(Reach::Window(frames)) = self.reach {
            config.window = Some(frames);
        }
        config
    }

    /// How good it is: the window, then how little waits.
    fn rank(&self) -> (u32, Reverse<u32>) {
        let window = match self.reach {
            Some(Reach::Asked) => u32::MAX,
            Some(Reach::Window(frames)) => frames,
            _ => 0,
        };
        (window, Reverse(self.offload))
    }
}

/// A film on a device: what it takes, and which settings fit.
#[derive(Debug, Clone, Serialize)]
pub struct Fit {
    /// What it takes as it was asked for.
    pub needs: Needs,
    /// Bytes that it may take; `None`: not known, and nobody said.
    pub have_bytes: Option<u64>,
    /// Why the device cannot hold it, however much memory there is.
    pub refused: Option<String>,
    /// Bytes of the network's weights in every format.
    pub weights: Vec<(WeightFormat, u64)>,
    /// Layers may wait in main memory to make it fit.
    #[serde(skip)]
    may_offload: bool,
    /// The cache as asked first, then smaller ones.
    pub choices: Vec<Choice>,
    /// What [`auto`] takes, a place among the choices.
    pub best: Option<usize>,
    /// Height and width of the largest smaller picture of about the same shape that fits with the narrowest codec and all of the
    /// window, where the one that was asked for does not.
    pub smaller_picture: Option<(u32, u32)>,
}

/// `config` with other codecs, beside which exact frames are half floats.
fn with(config: &Config, coded: Option<&Coded>) -> Config {
    Config {
        coded: coded.cloned(),
        kv: match coded {
            Some(_) => KvFormat::F16,
            None => config.kv,
        },
        ..config.clone()
    }
}

/// Whether layers in main memory leave room for the film: not where the device's memory is the main memory, unless the user sets a
/// limit to what the device holds.
fn may_offload(caps: &Caps, config: &Config) -> bool {
    let shares = matches!(caps.kind, Kind::Integrated | Kind::Software | Kind::Twin);
    config.budget_bytes.is_some() || !shares
}

/// Memory that a film may take.
fn have(caps: &Caps, config: &Config) -> Option<u64> {
    config.budget_bytes.or(caps.memory_bytes)
}

/// With the decoder in as few bands as fit, or as many as help where none do: they change no picture.
fn plan(caps: &Caps, film: &Outline<'_>, config: &Config) -> Result<Plan, Error> {
    let schedule = Schedule::new(film.model, config.steps).map_err(Error::Setting)?;
    let steps = schedule.steps.len() as u32;
    let mut found = Plan::new(caps, film, config, steps)?;
    let have = have(caps, config).unwrap_or(u64::MAX);
    for decoder in film.decoder.smaller(film.model.latent_grid()) {
        if found.memory.peak_device_bytes <= have {
            break;
        }
        let film = Outline {
            decoder,
            ..film.clone()
        };
        let next = Plan::new(caps, &film, config, steps)?;
        if next.memory.peak_device_bytes < found.memory.peak_device_bytes {
            found = next;
        }
    }
    Ok(found)
}

/// Plans a film and refuses what does not fit, with what would.
///
/// # Errors
/// Settings that contradict each other; [`Error::WouldNotFit`].
pub(super) fn check(caps: &Caps, film: &Outline<'_>, config: &Config) -> Result<Plan, Error> {
    let plan = plan(caps, film, config)?;
    plan.check_limits(caps)?;
    let Some(have) = have(caps, config).filter(|have| *have < plan.memory.peak_device_bytes) else {
        return Ok(plan);
    };
    let found = Fit::new(caps, film, config)?;
    Err(Error::WouldNotFit(format!(
        "{}\n{}",
        plan.shortage(have),
        found.table()
    )))
}

/// The widest setting that fits: `None` where that is what was asked for, or where the memory is not known.
///
/// # Errors
/// As [`Fit::new`]; [`Error::WouldNotFit`] where no window of any codec fits.
pub fn auto(
    caps: &Caps,
    film: &Outline<'_>,
    config: &Config,
) -> Result<Option<(Choice, Config)>, Error> {
    let found = Fit::new(caps, film, config)?;
    if found.have_bytes.is_none() {
        return Ok(None);
    }
    let Some(best) = found.best else {
        check(caps, film, config)?;
        return Ok(None);
    };
    let choice = &found.choices[best];
    let is_asked = choice.offload == found.needs.offload.layers;
    if (best, choice.reach) == (0, Some(Reach::Asked)) && is_asked {
        return Ok(None);
    }
    let config = choice.apply(config);
    // The search looked at shorter films with the same window.
    check(caps, film, &config)?;
    Ok(Some((choice.clone(), config)))
}

impl Fit {
    /// # Errors
    /// Settings that contradict each other.
    pub fn new(caps: &Caps, film: &Outline<'_>, config: &Config) -> Result<Fit, Error> {
        let asked = plan(caps, film, config)?;
        let have_bytes = have(caps, config);
        let search = Search { caps, film, config };
        let first = search.choice(config.coded.clone(), &asked, have_bytes)?;
        let mut choices = vec![first];
        for name in LADDER {
            let found = search.codec(name, have_bytes)?;
            // What the user asked for may be as narrow already.
            let narrower = |c: &Choice| c.cache_bytes < choices[0].cache_bytes;
            choices.extend(found.filter(narrower));
        }
        let fits = |c: &Choice| c.reach == Some(Reach::Asked);
        let window = |c: &Choice| match c.reach {
            Some(Reach::Window(frames)) => Some(frames),
            _ => None,
        };
        let best = choices.iter().position(fits).or_else(|| {
            let windows = choices.iter().map(window).enumerate();
            let widest = windows.filter_map(|(i, w)| Some((w?, i))).max();
            widest.map(|(_, i)| i)
        });
        let best = best.filter(|_| asked.check_limits(caps).is_ok());
        let smaller_picture = match (have_bytes, best.map(|i| choices[i].reach)) {
            (Some(_), Some(Some(Reach::Asked))) | (None, _) => None,
            (Some(have), _) => search.picture(choices.last(), have),
        };
        Ok(Fit {
            needs: needs(film, config, &asked),
            have_bytes,
            refused: asked.check_limits(caps).err().map(|e| e.to_string()),
            weights: WeightFormat::ALL
                .into_iter()
                .map(|f| (f, Dit::bytes(film.model, f, asked.offload.layers)))
                .collect(),
            may_offload: may_offload(caps, config),
            choices,
            best,
            smaller_picture,
        })
    }

    /// Settings of the cache by line: what each takes, and how far it fits.
    #[must_use]
    pub fn table(&self) -> String {
        let asked = self.needs.offload.layers;
        let mut lines = vec![["CACHE", "BYTES", "PEAK", "FITS"].map(str::to_owned)];
        lines.extend(self.choices.iter().map(|c| {
            let reach = match c.reach {
                None => "not known".to_owned(),
                Some(Reach::Asked) if c.offload == asked => "yes".to_owned(),
                Some(Reach::Asked | Reach::Window(_)) => format!("no; {} fits", c.flags()),
                Some(Reach::Nothing) => "no".to_owned(),
            };
            let name = Choice {
                reach: None,
                offload: asked,
                ..c.clone()
            };
            [name.flags(), mib(c.cache_bytes), mib(c.peak_bytes), reach]
        }));
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max();
        let widths: [usize; 4] = std::array::from_fn(|i| width(i).unwrap_or(0));
        let mut text = String::new();
        for [name, cache, peak, reach] in &lines {
            let [a, b, c, _] = widths;
            let _ = writeln!(text, "{name:a$}  {cache:>b$}  {peak:>c$}  {reach}");
        }
        text += &match (self.have_bytes, self.best.map(|i| &self.choices[i])) {
            (None, _) => {
                "the device does not tell how much memory is free; say it: --max-vram 8G".into()
            }
            (_, Some(c)) if c.reach == Some(Reach::Asked) => {
                format!("widest that fits: {}", c.flags())
            }
            (_, Some(c)) => format!("widest that fits: {}; or fewer frames", c.flags()),
            (_, None) => format!(
                "no codec and no --window helps{}: take smaller --weights, a smaller picture or model, or another --device",
                match self.may_offload {
                    true => ", not even with --offload all",
                    false => "",
                }
            ),
        };
        if let Some(c) = self
            .best
            .map(|i| &self.choices[i])
            .filter(|c| asked < c.offload)
        {
            let _ = write!(
                text,
                "; its {} layers wait in main memory, every pass uploads {}",
                c.offload,
                mib(c.pass_bytes)
            );
        }
        if let Some((height, width)) = self.smaller_picture {
            let _ = write!(
                text,
                "; a picture of {width}x{height} would do for all frames"
            );
        }
        text
    }
}

fn needs(film: &Outline<'_>, config: &Config, plan: &Plan) -> Needs {
    let decoder = plan.decoder;
    let total = film.total();
    let seen = |frames: usize| config.window.map_or(frames, |w| frames.min(w as usize));
    let c = film.model;
    let chunk = c.chunk_frames as usize;
    let mut work = c.text_work();
    let mut passes = film.given as u64;
    for given in 1..=film.given {
        work.add(c.pass_work(1, seen(given), true), 1.0);
    }
    let mut made = 0;
    while made < film.frames {
        let n = chunk.min(film.frames - made);
        made += n;
        let visible = seen(film.given + made);
        work.add(c.pass_work(n, visible, false), f64::from(plan.steps));
        passes += u64::from(plan.steps);
        // The last chunk's keys and values are needed by none.
        if made < film.frames {
            work.add(c.pass_work(n, visible, true), 1.0);
            passes += 1;
        }
    }
    Needs {
        memory: plan.memory,
        text_bytes: plan.text_bytes,
        staging_bytes: plan.staging_bytes,
        decoder_bytes: decoder.weights_bytes + decoder.activations_bytes,
        decoder_bands: decoder.bands,
        decoder_host_bytes: decoder.host_bytes,
        text_encoder_bytes: film.text_encoder_bytes,
        offload: plan.offload,
        upload_bytes: passes * plan.offload.pass_bytes,
        visible_frames: seen(total),
        steps: plan.steps,
        chunks: plan.chunks,
        work,
        decoder_flop: decoder.flop * film.frames as f64,
    }
}

/// Plans of one film under other settings.
struct Search<'a> {
    caps: &'a Caps,
    film: &'a Outline<'a>,
    config: &'a Config,
}

impl Search<'_> {
    /// The codec `name` with the usual spans where that fits, else with spans of a chunk; `None` where heads cannot have it, or
    /// where the film is too long to be looked at as a whole.
    fn codec(&self, name: &str, have: Option<u64>) -> Result<Option<Choice>, Error> {
        let head_dim = self.film.model.rope_split().head_dim();
        let Some(pair) = KvPair::of(name, name)
            .ok()
            .filter(|p| p.check(head_dim).is_ok())
        else {
            return Ok(None);
        };
        let seen = self.config.window.map_or(self.film.total(), |w| w as usize);
        if seen > WIDEST as usize {
            return Ok(None);
        }
        let asked = self.config.coded.as_ref();
        let usual = Coded {
            span: asked.and_then(|c| c.span),
            recent: asked.map_or(0, |c| c.recent),
            sink: asked.map_or(1, |c| c.sink),
            pair,
        };
        let at = |span: Option<u32>| -> Result<Choice, Error> {
            let coded = Some(Coded {
                span,
                ..usual.clone()
            });
            let config = with(self.config, coded.as_ref());
            let plan = plan(self.caps, self.film, &config)?;
            self.choice(coded, &plan, have)
        };
        let first = at(usual.span)?;
        if usual.span.is_some() {
            return Ok(Some(first));
        }
        let second = at(Some(self.film.model.chunk_frames))?;
        // The usual spans are the better measured ones, but frames stay exact until theirs is full.
        let exact = plan(self.caps, self.film, &with(self.config, None))?;
        let saved = |c: &Choice| exact.memory.peak_device_bytes.saturating_sub(c.peak_bytes);
        if first.reach != Some(Reach::Nothing)
            && first.rank() == second.rank()
            && saved(&second) <= 2 * saved(&first)
        {
            return Ok(Some(first));
        }
        let better = (second.rank(), first.peak_bytes) > (first.rank(), second.peak_bytes);
        Ok(Some(if better { second } else { first }))
    }

    fn choice(
        &self,
        coded: Option<Coded>,
        plan: &Plan,
        have: Option<u64>,
    ) -> Result<Choice, Error> {
        let m = &plan.memory;
        let asked = plan.offload.layers;
        let (reach, offload) = match have {
            None => (None, asked),
            Some(have) if m.peak_device_bytes <= have => (Some(Reach::Asked), asked),
            Some(have) => self.reach(coded.as_ref(), asked, have)?,
        };
        Ok(Choice {
            kv: coded.as_ref().map(|c| c.pair.name.clone()),
            span: coded.as_ref().and_then(|c| c.span),
            cache_bytes: m.cache_bytes + m.spans_bytes,
            peak_bytes: m.peak_device_bytes,
            reach,
            offload,
            pass_bytes: Dit::pass_bytes(self.film.model, self.config.weights, offload),
            coded,
        })
    }

    /// How far a cache gets that does not fit with `asked` layers in main memory, and with how many it does.
    fn reach(
        &self,
        coded: Option<&Coded>,
        asked: u32,
        have: u64,
    ) -> Result<(Option<Reach>, u32), Error> {
        let config = with(self.config, coded);
        if let Some(offload) = self.fewest(&config, have)? {
            return Ok((Some(Reach::Asked), offload));
        }
        let most = match may_offload(self.caps, self.config) {
            // One layer alone cannot wait.
            true if 1 < self.film.model.layers => self.film.model.layers,
            _ => asked,
        };
        let reach = self.window(coded, most, have)?;
        let Reach::Window(window) = reach else {
            return Ok((Some(reach), asked));
        };
        let config = Config {
            window: Some(window),
            ..config
        };
        let fits = plan(self.caps, self.film, &config)?
            .memory
            .peak_device_bytes
            <= have;
        let offload = match fits {
            true => asked,
            false => self.fewest(&config, have)?.unwrap_or(most),
        };
        Ok((Some(reach), offload))
    }

    /// The fewest layers in main memory with which a film fits that does not fit as `config` has it; `None`: no number does.
    fn fewest(&self, config: &Config, have: u64) -> Result<Option<u32>, Error> {
        let layers = self.film.model.layers;
        if !may_offload(self.caps, config) || layers < 2 {
            return Ok(None);
        }
        let fits = |offload: u32| -> Result<bool, Error> {
            let config = Config {
                offload,
                ..config.clone()
            };
            let plan = plan(self.caps, self.film, &config)?;
            Ok(plan.memory.peak_device_bytes <= have)
        };
        if !fits(layers)? {
            return Ok(None);
        }
        // `low` does not fit, `high` does.
        let (mut low, mut high) = (config.offload.max(1), layers);
        while low + 1 < high {
            let mid = low + (high - low) / 2;
            match fits(mid)? {
                true => high = mid,
                false => low = mid,
            }
        }
        Ok(Some(high))
    }

    /// The widest window that fits with `offload` layers in main memory, below the one that was asked for.
    fn window(&self, coded: Option<&Coded>, offload: u32, have: u64) -> Result<Reach, Error> {
        let least = self.config.sink + self.film.model.chunk_frames;
        let total = u32::try_from(self.film.total()).unwrap_or(u32::MAX);
        let asked = self.config.window.unwrap_or(total).min(total);
        let most = match coded {
            Some(_) => asked.min(WIDEST + 1),
            None => asked,
        };
        let fits = |frames: u32| -> Result<bool, Error> {
            let config = Config {
                window: Some(frames),
                offload,
                ..with(self.config, coded)
            };
            let span = coded.map_or(0, |c| c.span.unwrap_or(super::SPAN_FRAMES) + c.recent);
            // A window that is full repeats itself: what a longer film holds, this one does.
            let enough = 4 * (frames + span + self.film.model.chunk_frames) as usize;
            let film = Outline {
                frames: self.film.frames.min(enough),
                ..self.film.clone()
            };
            let plan = plan(self.caps, &film, &config)?;
            Ok(plan.memory.peak_device_bytes <= have)
        };
        if most <= least || !fits(least)? {
            return Ok(Reach::Nothing);
        }
        // `low` fits; `high` does not, or is what was asked for.
        let (mut low, mut high) = (least, most);
        while low + 1 < high {
            let mid = low + (high - low) / 2;
            match fits(mid)? {
                true => low = mid,
                false => high = mid,
            }
        }
        Ok(Reach::Window(low))
    }

    /// The largest smaller picture of about the same shape that fits under a setting with all of the window.
    fn picture(&self, choice: Option<&Choice>, have: u64) -> Option<(u32, u32)> {
        let c = self.film.model;
        let [_, ph, pw] = c.patch;
        let (side_h, side_w) = (ph * c.cell_px, pw * c.cell_px);
        let (height, width) = c.picture_px();
        let choice = choice?;
        let config = Config {
            offload: choice.offload,
            ..with(self.config, choice.coded.as_ref())
        };
        // A demo world's picture is its own; latents are of any size.
        if self.film.decoder == DecoderShape::Pixels {
            return None;
        }
        let rows = height / side_h;
        (1..rows).rev().find_map(|rows| {
            let height = rows * side_h;
            let cols = (u64::from(width) * u64::from(rows) / u64::from(c.grid().0)) as u32 / side_w;
            let model = c.clone().with_picture(height, cols * side_w).ok()?;
            let film = Outline {
                model: &model,
                ..self.film.clone()
            };
            let plan = plan(self.caps, &film, &config).ok()?;
            let fits =
                plan.memory.peak_device_bytes <= have && plan.check_limits(self.caps).is_ok();
            fits.then(|| model.picture_px())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Device;
    use crate::rollout::ModelSource;

    #[test]
    fn a_device_without_the_needed_limit_is_refused_with_numbers() {
        let caps = Caps {
            memory_bytes: None,
            ..Device::twin().caps().clone()
        };
        let model = ModelSource::rooms().unwrap();
        let film = model.outline(2, 4).unwrap();
        let check = |caps: &Caps| check(caps, &film, &Config::default());
        check(&caps).unwrap();
        let cases = [
            (
                Caps {
                    max_binding_bytes: 100_000,
                    ..caps.clone()
                },
                "0.1 MiB",
            ),
            (
                Caps {
                    max_storage_buffers: 4,
                    ..caps.clone()
                },
                "6 and 65536 are needed",
            ),
            (
                Caps {
                    max_uniform_bytes: 16_384,
                    ..caps.clone()
                },
                "16384",
            ),
            (
                Caps {
                    memory_bytes: Some(1 << 20),
                    ..caps.clone()
                },
                "1.0 MiB are free",
            ),
        ];
        for (caps, says) in cases {
            let error = check(&caps).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
