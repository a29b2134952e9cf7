//! The runs themselves: each setting on a device opened for it alone, all with the same noise, compared as raw frames.

use anyhow::Context as _;
use longtake::compare::{CacheFigures, Heard, Role, Run, Which};
use longtake::frame::Frame;
use longtake::rollout::{Config, Session};

use super::setting::Setting;
use crate::cli::args::{CompareArgs, Voice};
use crate::cli::fault::Fault;
use crate::cli::job::{self, Scene};
use crate::cli::report::Reporter;
use crate::cli::stop::Stop;
use crate::cli::{Clock, generate};

/// Fewest frames of a window of equal bytes.
const LEAST_WINDOW: u64 = 2;

/// What every run shares.
pub(super) struct Studio<'a> {
    pub(super) args: &'a CompareArgs,
    pub(super) voice: &'a Voice,
    pub(super) clock: Clock,
    pub(super) stop: &'a Stop,
}

/// One film and one seed under every setting: the runs with their figures, and the frames of each.
pub(super) struct Trial {
    pub(super) runs: Vec<Run>,
    pub(super) films: Vec<Vec<Frame>>,
}

/// A film and what it cost.
struct Take {
    frames: Vec<Frame>,
    cache: CacheFigures,
}

impl Studio<'_> {
    /// Every setting in turn, the reference first, then windows of equal bytes. `None` once the user wants to stop.
    ///
    /// # Errors
    /// What a session says, with the setting, the film and the seed.
    pub(super) fn trial(
        &self,
        scene: &Scene,
        seed: u64,
        which: &str,
    ) -> anyhow::Result<Option<Trial>> {
        let take = |setting: &Setting| {
            let name = format!("film {}, seed {seed}, {setting}", scene.film_idx);
            self.take(scene, seed, setting, &format!("{which} {name}"))
                .with_context(|| name)
        };
        let Some(reference) = take(&self.args.against)? else {
            return Ok(None);
        };
        let against = &self.args.against;
        let mut trial = Trial {
            runs: Vec::new(),
            films: Vec::new(),
        };
        trial.add(
            scene,
            seed,
            (against, Role::Reference, Vec::new()),
            None,
            &reference,
        )?;
        let mut windows: Vec<(Setting, Vec<String>)> = Vec::new();
        for setting in &self.args.kv {
            let Some(made) = take(setting)? else {
                return Ok(None);
            };
            if let Some(window) = self.window_of_equal_bytes(scene, &made.cache) {
                match windows.iter_mut().find(|(known, _)| *known == window) {
                    Some((_, bytes_of)) => bytes_of.push(setting.to_string()),
                    None => windows.push((window, vec![setting.to_string()])),
                }
            }
            let what = (setting, Role::Setting, Vec::new());
            trial.add(scene, seed, what, Some(&reference), &made)?;
        }
        // A window that was asked for by name is there already.
        windows.retain(|(window, _)| !self.args.kv.contains(window) && window != against);
        for (window, bytes_of) in windows {
            let Some(made) = take(&window)? else {
                return Ok(None);
            };
            let what = (&window, Role::EqualBytes, bytes_of);
            trial.add(scene, seed, what, Some(&reference), &made)?;
        }
        Ok(Some(trial))
    }

    /// The sliding window that spends a setting's bytes on 16-bit frames.
    fn window_of_equal_bytes(&self, scene: &Scene, cache: &CacheFigures) -> Option<Setting> {
        let chunk = u64::from(scene.model.config.chunk_frames);
        let least = u64::from(self.args.network.sink.unwrap_or(0)) + chunk;
        self.args
            .windows_of_equal_bytes
            .then(|| cache.window_of_equal_bytes(least.max(LEAST_WINDOW)))
            .flatten()
            .map(Setting::window)
    }

    /// One session from its first frame to its last.
    fn take(
        &self,
        scene: &Scene,
        seed: u64,
        setting: &Setting,
        title: &str,
    ) -> anyhow::Result<Option<Take>> {
        let mut reporter = reporter(self.args, self.voice, self.clock);
        reporter.note(title);
        let config = config(self.args, seed, setting)?;
        // A device of its own: the ledger's peak is then this run's, and no run finds kernels that another one compiled.
        let device = {
            let network = &self.args.network;
            generate::open(network.device.as_deref(), network.tier)?
        };
        device.measure_stages();
        let mut session = Session::new(&device, &scene.model, scene.walk.clone(), &config)?;
        reporter.event(&session.plan());
        let (mut frames, mut heard) = (Vec::new(), Heard::default());
        loop {
            if self.stop.is_asked() {
                reporter.end_progress();
                return Ok(None);
            }
            let mut hear = |event| {
                heard.event(&event, &device);
                reporter.event(&event);
            };
            match session.next_chunk(&mut hear) {
                Ok(Some(chunk)) => frames.extend(chunk.frames),
                Ok(None) => break,
                Err(err) => {
                    reporter.end_progress();
                    return Err(err.into());
                }
            }
        }
        reporter.end_progress();
        let cache = CacheFigures::of(&session, &device, heard);
        Ok(Some(Take { frames, cache }))
    }
}

impl Trial {
    fn add(
        &mut self,
        scene: &Scene,
        seed: u64,
        (setting, role, bytes_of): (&Setting, Role, Vec<String>),
        reference: Option<&Take>,
        made: &Take,
    ) -> anyhow::Result<()> {
        let which = Which {
            film: scene.film_idx,
            seed,
            setting: setting.to_string(),
            role,
            bytes_of,
        };
        let reference = reference.map(|take| (take.frames.as_slice(), &take.cache));
        let film = (made.frames.as_slice(), &made.cache);
        self.runs
            .push(Run::new(which, film, reference, &scene.walk)?);
        self.films.push(made.frames.clone());
        Ok(())
    }
}

/// What a session is asked for under `setting`.
///
/// # Errors
/// As [`Setting::apply`].
pub(super) fn config(args: &CompareArgs, seed: u64, setting: &Setting) -> Result<Config, Fault> {
    let mut config = job::config(&args.network, seed);
    setting.apply(&mut config)?;
    Ok(config)
}

/// Progress of one run; with `--json` the figures are all that is said.
pub(super) fn reporter(args: &CompareArgs, voice: &Voice, clock: Clock) -> Reporter {
    let voice = Voice {
        quiet: voice.quiet || args.json,
        ..voice.clone()
    };
    Reporter::progress_only(clock, &voice, args.no_progress)
}
