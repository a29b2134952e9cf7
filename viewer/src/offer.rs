//! What would fit where a film does not: settings of the cache that a button can take.

use longtake::gpu::Caps;
use longtake::rollout::fit::{Choice, Fit, Reach};
use longtake::rollout::{ModelSource, SPAN_FRAMES};

use crate::fault::Fault;
use crate::job::Job;
use crate::say;

/// Buttons at most.
const MOST: usize = 3;

/// A film that would fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it gives up, for a button.
    pub name: String,
    /// The film.
    pub job: Box<Job>,
}

impl Offer {
    fn new(job: &Job, choice: &Choice) -> Option<Offer> {
        let asked = job.config().ok()?;
        let config = choice.apply(&asked);
        let asked_span = job.span;
        let mut job = job.clone();
        job.window = config.window.unwrap_or(0);
        job.offload = config.offload;
        let mut name = match config.coded {
            // The window keeps spans of half floats for what is exact.
            Some(coded) if choice.kv.as_deref() != Some("halves") => {
                let kv = coded.pair.name.clone();
                let (k, v) = kv.split_once('/').unwrap_or((&kv, &kv));
                if job.settings() != [k, v] {
                    job.name(k, v).ok()?;
                }
                job.span = coded.span.unwrap_or(SPAN_FRAMES);
                (job.recent, job.exact) = (coded.recent, coded.sink);
                match k == v {
                    true => job.widths.name(),
                    false => kv,
                }
            }
            _ => job.widths.name(),
        };
        if asked.offload < job.offload {
            name += &format!(", {} layers wait", job.offload);
        }
        if let Some(Reach::Window(_)) = choice.reach {
            name += &format!(", window {}", job.window);
        } else if job.span != asked_span {
            name += &format!(", spans of {}", job.span);
        }
        Some(Offer {
            name,
            job: Box::new(job),
        })
    }
}

/// What a film that does not fit lacks, and what would fit, the widest first.
pub fn refusal(caps: &Caps, model: &ModelSource, job: &Job, mut fault: Fault) -> Fault {
    let found = job.config().ok().and_then(|config| {
        let outline = model.outline(job.given, job.most).ok()?;
        Fit::new(caps, &outline, &config).ok()
    });
    let Some(fit) = found else { return fault };
    if let Some(have) = fit.have_bytes {
        fault.headline = format!(
            "This film takes {}; {} has {}",
            say::bytes(fit.needs.memory.peak_device_bytes),
            caps.name,
            say::bytes(have)
        );
    }
    let fits = |c: &&Choice| matches!(c.reach, Some(Reach::Asked | Reach::Window(_)));
    let best = fit.best.map(|at| &fit.choices[at]);
    let whole = |c: &&Choice| c.reach == Some(Reach::Asked);
    let others = fit.choices.iter().enumerate();
    let others = others.filter(|(i, _)| Some(*i) != fit.best).map(|(_, c)| c);
    let (asked, shorter): (Vec<_>, Vec<_>) = others.partition(whole);
    // All of what was asked for comes before a part of it.
    let all = best.into_iter().chain(asked).chain(shorter).filter(fits);
    fault.offers = all.filter_map(|c| Offer::new(job, c)).take(MOST).collect();
    fault.advice = match fault.offers.is_empty() {
        true => "No width and no window helps: choose another device in Settings.".to_owned(),
        false => "What is given up: time first, by layers that wait in main memory, then bits of the cache, then frames of its window.".to_owned(),
    };
    fault
}
