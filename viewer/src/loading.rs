//! What lies before the first frame, stage by stage.

use longtake::rollout::event::LoadStage;

use crate::say;
use crate::state::{Phase, State};

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is over, or there was nothing to do.
    Done,
    /// It goes on.
    Now,
    /// It is still to come.
    Next,
}

/// A stage as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What is done in it.
    pub name: &'static str,
    /// How far it is, in its own unit; empty before it begins.
    pub figure: String,
    /// How far it is.
    pub step: Step,
    /// The same as a share, where it goes on.
    pub share: f32,
}

/// Stages that the engine has told of: done, of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loading([Option<(u64, u64)>; 4]);

impl Loading {
    /// Takes what the engine tells.
    pub fn take(&mut self, stage: LoadStage, done: u64, of: u64) {
        self.0[stage as usize] = Some((done, of));
    }
}

/// What was told of a stage: so much done, of so much.
type Told = Option<(u64, u64)>;

/// Every stage in its order.
pub fn rows(s: &State) -> Vec<Row> {
    let Loading([device, weights, upload, kernels]) = s.loading;
    let (given, of) = match s.phase {
        Phase::Loading(done, of) => (done as u64, of as u64),
        _ => (0, 0),
    };
    let (pass, passes) = s.film.pass;
    let begun = |done: u64, of: u64| (done > 0).then_some((done, of));
    let stages = [
        ("Open the device", device),
        ("Check the weights", weights),
        ("Bring them onto the device", upload),
        ("Compile kernels", kernels),
        ("Given frames into the cache", begun(given, of)),
        ("First frame", begun(pass.into(), passes.into())),
    ];
    // Kernels of the first frame are told after the given frames: what goes on is the last stage that is told of.
    let now = match stages[5].1.is_some() || (of > 0 && given == of) {
        true => 5,
        false => stages.iter().rposition(|(_, at)| at.is_some()).unwrap_or(0),
    };
    let row = |(i, (name, at)): (usize, (&'static str, Told))| {
        let (done, of) = at.unwrap_or_default();
        let step = match i {
            // A stage that is through gives way to the next one, which may have nothing to tell yet.
            _ if i < now || (i == now && 0 < of && done == of) => Step::Done,
            _ if i == now => Step::Now,
            _ => Step::Next,
        };
        let figure = match i {
            3 if at.is_none() && step == Step::Done => "kept".to_owned(),
            _ if at.is_none() => String::new(),
            0 => String::new(),
            1 => say::n(of as usize, "tensor"),
            2 => format!("{} / {} MiB", say::mib(done), say::mib(of)),
            5 => format!("pass {done} / {of}"),
            _ => format!("{done} / {of}"),
        };
        Row {
            name,
            figure,
            step,
            share: done as f32 / of.max(1) as f32,
        }
    };
    let mut rows: Vec<Row> = stages.into_iter().enumerate().map(row).collect();
    if s.job.text.is_some() {
        // A film from text begins with nothing.
        rows.remove(4);
    }
    // Between two stages the next one is at hand.
    if !rows.iter().any(|r| r.step == Step::Now)
        && let Some(next) = rows.iter_mut().find(|r| r.step == Step::Next)
    {
        next.step = Step::Now;
    }
    rows
}

/// The stage at hand in words.
pub fn line(s: &State) -> String {
    let rows = rows(s);
    let now = rows.iter().find(|r| r.step == Step::Now);
    now.map_or_else(String::new, |r| format!("{} {}", r.name, r.figure))
        .trim_end()
        .to_owned()
}
