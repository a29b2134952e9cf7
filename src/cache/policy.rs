//! Which frames stay exact, which become a span and when, which leave. Pure; no device.
//! Source: METHOD 7.1 (spans, trigger, window by whole spans), SELF-FORCING 5.2 (window and sink).

use std::collections::BTreeSet;
use std::ops::Range;

use super::layout::LayoutError;

/// How far attention reaches back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Frames kept at most, the sink and the current chunk included; `None`: all.
    pub frames: Option<usize>,
    /// First frames of the film that never leave.
    pub sink: usize,
}

/// The position that turns a key or query by its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyPositions {
    /// The frame's own in the film.
    #[default]
    Absolute,
    /// The frame's place among those that attention sees, from 0: films without end stay among the positions that a
    /// model was trained with.
    Relative,
}

impl KeyPositions {
    /// Position of a frame where attention sees `shown`, oldest first; `None`: it does not see it.
    pub(super) fn of(self, shown: &[i64], frame: i64) -> Option<i64> {
        let rank = shown.binary_search(&frame).ok()?;
        Some(match self {
            Self::Absolute => frame,
            Self::Relative => rank as i64,
        })
    }
}

/// When frames are coded, and which stay exact.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Policy {
    /// How far attention reaches back.
    pub window: Window,
    /// Chunks of a span; 0: nothing is ever coded.
    pub span_chunks: usize,
    /// Newest finished chunks that stay exact.
    pub recent_chunks: usize,
    /// First frames of the film that stay exact; with a window at most its sink.
    pub exact_sink: usize,
    /// Positions of keys and queries.
    pub positions: KeyPositions,
    /// What leaves the window is taken in by the sink, of which this share stays: `sink = share sink + (1 - share) frame`,
    /// frame by frame, keys before RoPE and values alike. `None`: the sink stays as it is.
    ///
    /// Pages of 16 bits round the sum to what they can hold, so that a share smaller than half a step of the sink's value is
    /// lost.
    ///
    /// Source: Reward-Forcing, SELF-FORCING 5.7.
    pub ema_sink: Option<f32>,
}

impl Policy {
    /// Holds the rules to each other and to chunks of `chunk` frames.
    ///
    /// # Errors
    /// The window cannot hold sink and chunk, or the sink cannot take in what leaves.
    pub fn check(&self, chunk: usize) -> Result<(), LayoutError> {
        let Window {
            frames: window,
            sink,
        } = self.window;
        if let Some(window) = window.filter(|w| sink + chunk > *w) {
            return Err(LayoutError::WindowTooSmall {
                window,
                sink,
                chunk,
            });
        }
        if self.ema_sink.is_none() {
            return Ok(());
        }
        // Every chunk beyond the window then pushes out as many frames as the sink has.
        match window {
            Some(w) if chunk == sink && (w - sink).is_multiple_of(chunk) => {}
            window => {
                return Err(LayoutError::SinkTakesIn {
                    window,
                    sink,
                    chunk,
                });
            }
        }
        match self.span_chunks {
            0 => Ok(()),
            _ => Err(LayoutError::CodedSinkTakesIn),
        }
    }
}

/// Who is where: the state of the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Residency {
    /// First frame of every chunk begun.
    chunks: Vec<i64>,
    /// Spans that are resident, oldest first.
    spans: Vec<Range<i64>>,
    /// Exact frames that are resident.
    exact: BTreeSet<i64>,
    /// First frame behind the sink that is still attended.
    live_from: i64,
}

/// What has to happen before a chunk is denoised, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Exact frames to code into one span each; their exact copies go.
    pub code: Vec<Range<i64>>,
    /// Exact frames that left the window.
    pub free: Vec<i64>,
    /// Spans that left it.
    pub free_spans: Vec<Range<i64>>,
}

impl Residency {
    /// Begins the chunk of `frames`, which follow the ones before. A chunk that is resident already changes nothing.
    ///
    /// # Errors
    /// The window cannot hold sink and chunk, or the sink cannot take in what leaves; nothing is changed then.
    pub fn begin(&mut self, policy: &Policy, frames: Range<i64>) -> Result<Step, LayoutError> {
        if frames.clone().all(|f| self.exact.contains(&f)) {
            return Ok(Step::default());
        }
        policy.check((frames.end - frames.start) as usize)?;
        let Window {
            frames: window,
            sink,
        } = policy.window;
        let mut step = Step {
            code: self.due(policy),
            ..Step::default()
        };
        for span in &step.code {
            self.exact.retain(|f| !span.contains(f));
            self.spans.push(span.clone());
        }
        self.spans.sort_by_key(|s| s.start);
        self.chunks.push(frames.start);
        self.exact.extend(frames.clone());
        if let Some(window) = window {
            let sink_end = self.first() + sink as i64;
            self.live_from = sink_end.max(frames.end - (window - sink) as i64);
            let dead = sink_end..self.live_from;
            step.free = self.exact.range(dead.clone()).copied().collect();
            self.exact.retain(|f| !dead.contains(f));
            let gone = |s: &Range<i64>| dead.start <= s.start && s.end <= dead.end;
            step.free_spans = self.spans.iter().filter(|s| gone(s)).cloned().collect();
            self.spans.retain(|s| !gone(s));
        }
        Ok(step)
    }

    /// Chunks begun so far, and the first frame behind the sink that is attended: with its step, what taking back a chunk needs.
    pub(super) fn mark(&self) -> (usize, i64) {
        (self.chunks.len(), self.live_from)
    }

    /// First frame of the chunk that was begun last.
    pub(super) fn last_begun(&self) -> Option<i64> {
        self.chunks.last().copied()
    }

    /// Frames of the sink that are resident.
    pub(super) fn sink(&self, policy: &Policy) -> Range<i64> {
        self.first()..self.first() + policy.window.sink as i64
    }

    /// From now on as if the film had begun with `frames`, the newest ones, all exact.
    pub(super) fn restart(&mut self, policy: &Policy, frames: Range<i64>) {
        self.chunks.retain(|start| frames.start < *start);
        self.chunks.insert(0, frames.start);
        self.live_from = frames.start + policy.window.sink as i64;
        self.exact = frames.collect();
    }

    /// Takes back the newest chunk, of `frames`, whose beginning answered `step`; `live_from` is from the mark before it.
    pub(super) fn take_back(&mut self, frames: &Range<i64>, step: &Step, live_from: i64) {
        self.chunks.pop();
        self.exact.retain(|f| !frames.contains(f));
        self.exact.extend(step.code.iter().cloned().flatten());
        self.exact.extend(&step.free);
        self.spans.extend(step.free_spans.iter().cloned());
        self.spans.retain(|s| !step.code.contains(s));
        self.spans.sort_by_key(|s| s.start);
        self.live_from = live_from;
    }

    /// Spans to code before the next chunk.
    fn due(&self, policy: &Policy) -> Vec<Range<i64>> {
        let first = self.first();
        let kept = first + policy.exact_sink as i64;
        // Without a window spans are counted from the first chunk that is not all sink, so that they are as long as each other.
        let before = match policy.window.frames {
            None => self.chunks.partition_point(|start| *start <= kept).max(1) - 1,
            Some(_) => 0,
        };
        let (n, keep, c) = (policy.span_chunks, policy.recent_chunks, self.chunks.len());
        let kept_exact = keep + before;
        if n == 0 || c < n + kept_exact || !(c - kept_exact).is_multiple_of(n) {
            return Vec::new();
        }
        let end = self.exact.last().map_or(0, |f| f + 1);
        let start_of = |chunk: usize| self.chunks.get(chunk).copied().unwrap_or(end);
        let (a, b) = (start_of(c - n - keep), start_of(c - keep));
        let sink = first + policy.window.sink as i64;
        let (in_sink, behind) = match policy.window.frames {
            // A span is dropped as a whole: the sink's part must not be dropped with the rest.
            Some(_) if a < sink => (a.max(kept.min(sink))..sink.min(b), sink..b),
            Some(window) => (b..b, a.max(b - (window - policy.window.sink) as i64)..b),
            None => (b..b, a.max(kept)..b),
        };
        [in_sink, behind]
            .into_iter()
            .filter(|r| r.start < r.end)
            .collect()
    }

    fn first(&self) -> i64 {
        self.chunks.first().copied().unwrap_or(0)
    }

    /// Resident spans, oldest first.
    pub fn spans(&self) -> &[Range<i64>] {
        &self.spans
    }

    /// Resident exact frames, oldest first.
    pub fn exact(&self) -> impl ExactSizeIterator<Item = i64> {
        self.exact.iter().copied().collect::<Vec<_>>().into_iter()
    }

    /// Whether attention reads a resident frame: spans keep frames that have left the window until all have.
    pub fn is_attended(&self, policy: &Policy, frame: i64) -> bool {
        policy.window.frames.is_none()
            || frame < self.first() + policy.window.sink as i64
            || frame >= self.live_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(policy: &Policy, chunks: usize, f: i64) -> Residency {
        let mut r = Residency::default();
        for c in 0..chunks as i64 {
            r.begin(policy, 5 + c * f..5 + (c + 1) * f).unwrap();
        }
        r
    }

    #[test]
    fn a_window_keeps_the_sink_and_the_newest() {
        let policy = Policy {
            window: Window {
                frames: Some(7),
                sink: 2,
            },
            ..Policy::default()
        };
        let r = run(&policy, 4, 3);
        assert_eq!(r.exact().collect::<Vec<_>>(), [5, 6, 12, 13, 14, 15, 16]);
        let mut small = Residency::default();
        let refused = small.begin(&policy, 0..6);
        assert!(matches!(refused, Err(LayoutError::WindowTooSmall { .. })));
        assert_eq!(small.exact().len(), 0);
    }

    #[test]
    fn spans_wait_for_the_recent_chunks_and_spare_the_sink() {
        let policy = Policy {
            span_chunks: 4,
            recent_chunks: 2,
            exact_sink: 1,
            ..Policy::default()
        };
        assert!(run(&policy, 7, 1).spans().is_empty());
        let r = run(&policy, 8, 1);
        assert_eq!(r.spans(), std::slice::from_ref(&(6..10)));
        assert_eq!(r.exact().collect::<Vec<_>>(), [5, 10, 11, 12]);
        // A chunk that is sink in part has the rest of it coded.
        let r = run(&policy, 7, 2);
        assert_eq!(r.spans(), std::slice::from_ref(&(6..13)));
    }

    #[test]
    fn chunks_are_taken_back_one_by_one() {
        for (window, span_chunks, recent_chunks, f) in [
            (None, 2, 1, 1),
            (None, 0, 0, 3),
            (Some(7), 0, 0, 2),
            (Some(9), 2, 0, 2),
            (Some(6), 3, 1, 1),
        ] {
            let policy = Policy {
                window: Window {
                    frames: window,
                    sink: window.map_or(0, |_| 2),
                },
                span_chunks,
                recent_chunks,
                exact_sink: 1,
                ..Policy::default()
            };
            let mut r = Residency::default();
            let mut before = Vec::new();
            for c in 0..12 {
                let (frames, was) = (5 + c * f..5 + (c + 1) * f, r.clone());
                let step = r.begin(&policy, frames.clone()).unwrap();
                before.push((was, frames, step));
            }
            for (was, frames, step) in before.into_iter().rev() {
                r.take_back(&frames, &step, was.mark().1);
                assert_eq!(r, was, "{policy:?}");
            }
        }
    }

    #[test]
    fn a_sink_takes_in_chunks_of_its_own_length_and_exact_ones() {
        let policy = |window, sink, span_chunks| Policy {
            window: Window {
                frames: window,
                sink,
            },
            span_chunks,
            ema_sink: Some(0.9),
            ..Policy::default()
        };
        let begin = |p: &Policy, chunk: i64| Residency::default().begin(p, 0..chunk);
        begin(&policy(Some(9), 3, 0), 3).unwrap();
        for (window, sink, chunk) in [
            (None, 3, 3),
            (Some(9), 2, 3),
            (Some(9), 3, 1),
            (Some(8), 3, 3),
            (Some(9), 0, 3),
        ] {
            let refused = begin(&policy(window, sink, 0), chunk);
            assert!(matches!(refused, Err(LayoutError::SinkTakesIn { .. })));
        }
        let coded = begin(&policy(Some(9), 3, 1), 3);
        assert_eq!(coded, Err(LayoutError::CodedSinkTakesIn));
    }

    #[test]
    fn a_restart_makes_the_newest_frames_the_film() {
        let policy = Policy {
            window: Window {
                frames: Some(7),
                sink: 2,
            },
            ..Policy::default()
        };
        let mut r = run(&policy, 4, 3);
        r.restart(&policy, 10..17);
        assert_eq!(r.exact().collect::<Vec<_>>(), (10..17).collect::<Vec<_>>());
        assert!(r.exact().all(|f| r.is_attended(&policy, f)));
        assert_eq!(r.sink(&policy), 10..12);
        r.begin(&policy, 17..20).unwrap();
        let want = [10, 11, 15, 16, 17, 18, 19];
        assert_eq!(r.exact().collect::<Vec<_>>(), want);
    }

    #[test]
    fn passes_over_one_chunk_change_nothing() {
        let policy = Policy {
            span_chunks: 1,
            ..Policy::default()
        };
        let mut r = run(&policy, 3, 2);
        let spans = r.spans().to_vec();
        assert_eq!(r.begin(&policy, 9..11).unwrap(), Step::default());
        assert_eq!(r.spans(), spans);
    }
}
