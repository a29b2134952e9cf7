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

/// When frames are coded, and which stay exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// How far attention reaches back.
    pub window: Window,
    /// Chunks of a span; 0: nothing is ever coded.
    pub span_chunks: usize,
    /// Newest finished chunks that stay exact.
    pub recent_chunks: usize,
    /// First frames of the film that stay exact; with a window at most its sink.
    pub exact_sink: usize,
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
    /// The window cannot hold sink and chunk; nothing is changed then.
    pub fn begin(&mut self, policy: &Policy, frames: Range<i64>) -> Result<Step, LayoutError> {
        if frames.clone().all(|f| self.exact.contains(&f)) {
            return Ok(Step::default());
        }
        let chunk = (frames.end - frames.start) as usize;
        let Window {
            frames: window,
            sink,
        } = policy.window;
        if let Some(window) = window.filter(|w| sink + chunk > *w) {
            return Err(LayoutError::WindowTooSmall {
                window,
                sink,
                chunk,
            });
        }
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
