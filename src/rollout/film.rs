//! What a film is made of beside the network: a walk through a demo world that begins with true frames, or prompts alone.

use super::error::Error;
use crate::frame::Frame;
use crate::model::config::{Cross, DitConfig, FrameCondition};
use crate::world::pose::{N_POSE_FEATURES, Pose, pose_features};

/// What conditions a film.
#[derive(Debug, Clone)]
pub enum Film {
    /// A way through a demo world.
    Walk(Walk),
    /// Prompts.
    Text(Script),
}

/// The true frames a demo film starts from, and the way on.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Given frames, at least one.
    pub given: Vec<Frame>,
    /// Their poses.
    pub given_poses: Vec<Pose>,
    /// Poses of the frames to make; for [`Session::open`](super::Session::open) those that are known at the start, maybe none.
    pub poses: Vec<Pose>,
}

/// The prompts of a film, encoded, and its length.
#[derive(Debug, Clone)]
pub struct Script {
    /// Prompts by the chunk that each is in force from, rising, the first from chunk 0. None will do for a plan alone.
    pub cues: Vec<Cue>,
    /// Latent frames to make, whole chunks: [`DitConfig::whole_chunks`].
    pub latents: usize,
}

/// A prompt, and from when on it is in force.
#[derive(Debug, Clone)]
pub struct Cue {
    /// Chunk.
    pub chunk: u32,
    /// Its rows from the text encoder, `[token, text_dim]`, real tokens only.
    pub rows: Vec<f32>,
}

/// A prompt that takes over from the one before.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Its first chunk.
    pub chunk: u32,
    /// Chunks from there on that mix both prompts, the new one's share growing evenly; 0: a cut.
    pub blend: u32,
    /// As [`Cue::rows`].
    pub rows: Vec<f32>,
}

impl From<Walk> for Film {
    fn from(walk: Walk) -> Film {
        Film::Walk(walk)
    }
}

impl From<Script> for Film {
    fn from(script: Script) -> Film {
        Film::Text(script)
    }
}

impl Script {
    /// One prompt from the beginning to the end.
    pub fn one(rows: Vec<f32>, latents: usize) -> Script {
        Script {
            cues: vec![Cue { chunk: 0, rows }],
            latents,
        }
    }

    /// Prompts that follow each other over a film of `chunks` chunks and `latents` latent frames. A mixed chunk's rows lie on
    /// the line between both prompts, row by row, the shorter one filled up with the zeros of padding. What begins behind the
    /// end of the film is left out.
    pub fn new(turns: &[Turn], chunks: u32, latents: usize) -> Script {
        let mut cues: Vec<Cue> = Vec::new();
        let mut before: Option<&Turn> = None;
        for turn in turns {
            let from = before.filter(|_| 0 < turn.blend);
            let whole = turn.chunk.saturating_add(from.map_or(0, |_| turn.blend));
            if let Some(from) = from {
                for chunk in turn.chunk..whole.min(chunks) {
                    let share = (chunk - turn.chunk + 1) as f32 / (turn.blend + 1) as f32;
                    let rows = mixed(&from.rows, &turn.rows, share);
                    cues.push(Cue { chunk, rows });
                }
            }
            if whole < chunks {
                cues.push(Cue {
                    chunk: whole,
                    rows: turn.rows.clone(),
                });
            }
            before = Some(turn);
        }
        Script { cues, latents }
    }

    /// Place of the cue that is in force in a chunk.
    pub(super) fn cue(&self, chunk: u32) -> usize {
        self.cues
            .partition_point(|cue| cue.chunk <= chunk)
            .saturating_sub(1)
    }
}

fn mixed(from: &[f32], to: &[f32], share: f32) -> Vec<f32> {
    let at = |rows: &[f32], i: usize| rows.get(i).copied().unwrap_or(0.0);
    (0..from.len().max(to.len()))
        .map(|i| (1.0 - share) * at(from, i) + share * at(to, i))
        .collect()
}

impl Film {
    /// True frames that it starts from.
    pub fn given(&self) -> &[Frame] {
        match self {
            Film::Walk(walk) => &walk.given,
            Film::Text(_) => &[],
        }
    }

    /// Latent frames to make, as far as they are told.
    pub fn told(&self) -> usize {
        match self {
            Film::Walk(walk) => walk.poses.len(),
            Film::Text(script) => script.latents,
        }
    }

    /// Pose features of frames to make, `[frame, feature]`; empty without a way.
    pub(super) fn poses(&self, first: usize, n_frames: usize) -> Vec<f32> {
        match self {
            Film::Walk(walk) => walk.poses[first..first + n_frames]
                .iter()
                .flat_map(|p| pose_features(*p))
                .collect(),
            Film::Text(_) => Vec::new(),
        }
    }

    /// Whether the pose of frame `at` to make is new: none of the frames that it attends to, the film's first `sink` and the rest
    /// of a `window` that it is the last one of, was at the same one. A film without a way has none.
    pub(super) fn is_new(&self, at: usize, window: Option<usize>, sink: usize) -> bool {
        let Film::Walk(walk) = self else {
            return false;
        };
        let before = walk.given_poses.len() + at;
        let first = window.map_or(0, |w| (before + 1 + sink).saturating_sub(w));
        let way = walk.given_poses.iter().chain(&walk.poses).take(before);
        way.enumerate()
            .filter(|(i, _)| *i < sink || first <= *i)
            .all(|(_, pose)| *pose != walk.poses[at])
    }

    /// Pose features of a given frame.
    pub(super) fn given_pose(&self, at: usize) -> Vec<f32> {
        match self {
            Film::Walk(walk) => pose_features(walk.given_poses[at]).to_vec(),
            Film::Text(_) => Vec::new(),
        }
    }

    /// Forgets what was told of the way behind its first `frames`. Prompts stay as they are: they belong to chunks.
    pub(super) fn cut(&mut self, frames: usize) {
        if let Film::Walk(walk) = self {
            walk.poses.truncate(frames);
        }
    }

    /// Holds a film of up to `frames` latent frames to what the network takes.
    ///
    /// # Errors
    /// The first thing that does not go together.
    pub(super) fn check(&self, c: &DitConfig, frames: usize) -> Result<(), Error> {
        if frames == 0 {
            return setting("no frames to make; ask for at least one");
        }
        match self {
            Film::Walk(walk) => check_walk(c, walk),
            Film::Text(script) => check_script(c, script, frames),
        }
    }
}

fn setting<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Setting(text.into()))
}

fn check_walk(c: &DitConfig, walk: &Walk) -> Result<(), Error> {
    let FrameCondition::Pose { dim } = c.frame_condition else {
        return setting("this model takes no camera path; only demo worlds do");
    };
    let (height, width) = c.picture_px();
    if dim as usize != N_POSE_FEATURES {
        return setting(format!(
            "the model takes {dim} pose features, this version makes {N_POSE_FEATURES}"
        ));
    }
    if walk.given.is_empty() || walk.given.len() != walk.given_poses.len() {
        return setting(format!(
            "{} given frames with {} poses; at least one of each is needed",
            walk.given.len(),
            walk.given_poses.len()
        ));
    }
    match walk
        .given
        .iter()
        .find(|f| (f.width, f.height) != (width, height))
    {
        Some(f) => setting(format!(
            "given frames are {}x{}, the model makes {width}x{height}",
            f.width, f.height
        )),
        None => Ok(()),
    }
}

fn check_script(c: &DitConfig, script: &Script, frames: usize) -> Result<(), Error> {
    let chunk = c.chunk_frames as usize;
    if c.cross == Cross::None || c.frame_condition != FrameCondition::None {
        return setting("this model does not run on a prompt alone; only text models do");
    }
    if !frames.is_multiple_of(chunk) || !script.latents.is_multiple_of(chunk) {
        return setting(format!(
            "the model makes {chunk} latent frames at a time; {frames} are no whole chunks"
        ));
    }
    let rising = script.cues.windows(2).all(|p| p[0].chunk < p[1].chunk);
    if !rising || script.cues.first().is_some_and(|cue| cue.chunk != 0) {
        return setting(
            "prompts begin with chunk 0 and each has a later chunk than the one before",
        );
    }
    script
        .cues
        .iter()
        .try_for_each(|cue| check_rows(c, &cue.rows))
}

/// Holds an encoded prompt to the sizes of the network.
pub(super) fn check_rows(c: &DitConfig, rows: &[f32]) -> Result<(), Error> {
    let Cross::Separate { text_dim, text_len } = c.cross else {
        return setting("this model takes no prompt; only text models do");
    };
    let dim = text_dim as usize;
    if rows.is_empty() || !rows.len().is_multiple_of(dim) || text_len as usize * dim < rows.len() {
        return setting(format!(
            "an encoded prompt of {} values; the network takes 1 to {text_len} rows of {dim}",
            rows.len()
        ));
    }
    match rows.iter().all(|v| v.is_finite()) {
        true => Ok(()),
        false => setting("an encoded prompt with values that are not numbers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(chunk: u32, blend: u32, rows: &[f32]) -> Turn {
        Turn {
            chunk,
            blend,
            rows: rows.to_vec(),
        }
    }

    fn cues(script: &Script) -> Vec<(u32, Vec<f32>)> {
        let cue = |c: &Cue| (c.chunk, c.rows.clone());
        script.cues.iter().map(cue).collect()
    }

    #[test]
    fn a_blend_goes_evenly_from_one_prompt_to_the_next() {
        let script = Script::new(&[turn(0, 0, &[0.0, 8.0]), turn(2, 3, &[4.0])], 10, 30);
        assert_eq!(
            cues(&script),
            [
                (0, vec![0.0, 8.0]),
                (2, vec![1.0, 6.0]),
                (3, vec![2.0, 4.0]),
                (4, vec![3.0, 2.0]),
                (5, vec![4.0]),
            ]
        );
        let in_force: Vec<usize> = (0..7).map(|chunk| script.cue(chunk)).collect();
        assert_eq!(in_force, [0, 0, 1, 2, 3, 4, 4]);
    }

    #[test]
    fn nothing_begins_behind_the_end() {
        let turns = [
            turn(0, 0, &[0.0]),
            turn(2, u32::MAX - 1, &[1.0]),
            turn(9, 0, &[2.0]),
        ];
        let script = Script::new(&turns, 4, 12);
        let chunks: Vec<u32> = script.cues.iter().map(|c| c.chunk).collect();
        assert_eq!(chunks, [0, 2, 3]);
    }

    #[test]
    fn the_first_prompt_has_nothing_to_come_from() {
        let script = Script::new(&[turn(0, 5, &[1.0]), turn(1, 0, &[2.0])], 10, 30);
        assert_eq!(cues(&script), [(0, vec![1.0]), (1, vec![2.0])]);
    }

    #[test]
    fn a_pose_is_new_when_no_frame_in_reach_was_there() {
        let at = |x: i32| Pose { x, y: 0, k: 0 };
        let walk = Walk {
            given: Vec::new(),
            given_poses: [0, 1, 2].map(at).to_vec(),
            poses: [1, 3, 0, 3].map(at).to_vec(),
        };
        let film = Film::from(walk);
        let new = |window, sink| [0, 1, 2, 3].map(|i| film.is_new(i, window, sink));
        assert_eq!(new(None, 0), [false, true, false, false]);
        // The last one sees itself and the two before.
        assert_eq!(new(Some(3), 0), [false, true, true, false]);
        assert_eq!(new(Some(2), 0), [true, true, true, true]);
        // The sink holds the first frame, where the third one was.
        assert_eq!(new(Some(3), 1), [true, true, false, true]);
        assert_eq!(new(Some(99), 1), new(None, 0));
        assert!(!Film::from(Script::one(vec![0.0], 1)).is_new(0, None, 0));
    }

    #[test]
    fn scripts_that_do_not_fit_the_network_are_refused() {
        let c = DitConfig::selfforcing_1_3b();
        let row = vec![0.5; 4096];
        let check = |cues: Vec<Cue>, latents: usize| Script { cues, latents };
        let cue = |chunk, rows: &[f32]| Cue {
            chunk,
            rows: rows.to_vec(),
        };
        for (script, frames, says) in [
            (check(vec![], 4), 4, "no whole chunks"),
            (check(vec![], 0), 0, "no frames to make"),
            (check(vec![cue(1, &row)], 3), 3, "begin with chunk 0"),
            (check(vec![cue(0, &row), cue(0, &row)], 3), 3, "later chunk"),
            (check(vec![cue(0, &[])], 3), 3, "1 to 512 rows of 4096"),
            (check(vec![cue(0, &row[1..])], 3), 3, "4095 values"),
            (check(vec![cue(0, &row.repeat(513))], 3), 3, "1 to 512 rows"),
            (check(vec![cue(0, &[f32::NAN; 4096])], 3), 3, "not numbers"),
        ] {
            let error = Film::from(script).check(&c, frames).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        let sound = check(vec![cue(0, &row), cue(7, &row.repeat(512))], 6);
        Film::from(sound).check(&c, 6).unwrap();
    }
}
