//! The playhead: which frame is shown when. Pure; making frames is another matter and goes on while the view is paused.

/// What part is shown again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeat {
    /// Nothing.
    #[default]
    Off,
    /// From a mark on; the end is not set yet.
    From(usize),
    /// From a frame to another, both shown.
    Between(usize, usize),
    /// Everything.
    All,
}

/// The playhead.
#[derive(Debug, Clone)]
pub struct Play {
    /// Frame that is shown.
    pub at: usize,
    /// The view moves.
    pub moving: bool,
    /// The newest frame is shown as soon as it is there.
    pub follow: bool,
    /// Speed, 1 is the film's own.
    pub speed: f64,
    /// What is repeated.
    pub repeat: Repeat,
    /// Frames that came at once last: following, the view shows them one after the other and not the last one alone.
    pub batch: usize,
    /// Seconds that the frame at hand has been shown.
    shown: f64,
}

impl Default for Play {
    fn default() -> Self {
        Play {
            at: 0,
            moving: true,
            follow: true,
            speed: 1.0,
            repeat: Repeat::Off,
            batch: 1,
            shown: 0.0,
        }
    }
}

impl Play {
    /// Lets `secs` pass in a film of `n` frames at `fps`; gives the seconds to the next frame, `None` when nothing will move
    /// by itself.
    pub fn tick(&mut self, secs: f64, n: usize, fps: f64) -> Option<f64> {
        let last = n.saturating_sub(1);
        self.at = self.at.min(last);
        if self.follow {
            // Behind by two batches at most: the one before may still be on the screen when the next one comes.
            let behind = match self.batch {
                0 | 1 => 1,
                batch => 2 * batch,
            };
            self.at = self.at.max(n.saturating_sub(behind));
            if self.at == last {
                self.shown = 0.0;
                return None;
            }
        }
        if !self.moving || n == 0 {
            self.shown = 0.0;
            return None;
        }
        let frame = 1.0 / (fps * self.speed).max(0.01);
        // A window that slept does not race through what it missed.
        self.shown += secs.min(4.0 * frame);
        while self.shown >= frame {
            let Some(next) = self.next(last) else {
                // At the end of what there is: wait there.
                self.shown = frame;
                return None;
            };
            self.at = next;
            self.shown -= frame;
        }
        (self.next(last).is_some()).then_some(frame - self.shown)
    }

    fn next(&self, last: usize) -> Option<usize> {
        match self.repeat {
            Repeat::Between(a, b) if self.at >= b.min(last) => Some(a),
            Repeat::All if self.at >= last => Some(0),
            _ => (self.at < last).then_some(self.at + 1),
        }
    }

    /// The view waits for frames that are still to be made.
    pub fn waits(&self, n: usize) -> bool {
        self.moving && !self.follow && self.at + 1 >= n
    }

    /// Plays or pauses; from the end of a film that grows no more it begins again.
    pub fn toggle(&mut self, n: usize, grows: bool) {
        if self.moving {
            self.moving = false;
            self.follow = false;
            return;
        }
        self.moving = true;
        self.shown = 0.0;
        if self.at + 1 >= n && !grows {
            self.at = 0;
        }
        self.follow = self.at + 1 >= n && grows;
    }

    /// Shows a frame and pauses there.
    pub fn seek(&mut self, frame: usize, n: usize) {
        self.at = frame.min(n.saturating_sub(1));
        self.moving = false;
        self.follow = false;
        self.shown = 0.0;
    }

    /// Steps by frames and pauses.
    pub fn step(&mut self, by: isize, n: usize) {
        self.seek(self.at.saturating_add_signed(by), n);
    }

    /// Goes to the newest frame and stays there.
    pub fn live(&mut self, n: usize) {
        self.at = n.saturating_sub(1);
        self.moving = true;
        self.follow = true;
    }

    /// Speed by a tenth up or down, or back to the film's own.
    pub fn faster(&mut self, by: f64) {
        self.speed = ((self.speed + by) * 10.0).round().clamp(1.0, 80.0) / 10.0;
    }

    /// Sets the first mark, then the second, then takes both away.
    pub fn mark(&mut self) {
        self.repeat = match self.repeat {
            Repeat::Off | Repeat::All => Repeat::From(self.at),
            Repeat::From(a) if a < self.at => Repeat::Between(a, self.at),
            Repeat::From(a) if self.at < a => Repeat::Between(self.at, a),
            _ => Repeat::Off,
        };
    }

    /// Repeats the whole film, or nothing.
    pub fn repeat_all(&mut self) {
        self.repeat = match self.repeat {
            Repeat::All => Repeat::Off,
            _ => Repeat::All,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(frame: usize) -> Play {
        Play {
            at: frame,
            follow: false,
            ..Play::default()
        }
    }

    #[test]
    fn time_moves_the_head_and_the_end_holds_it() {
        let mut p = at(0);
        let next = p.tick(0.13, 4, 8.0).unwrap();
        assert_eq!(p.at, 1);
        assert!((next - 0.12).abs() < 1e-9, "{next}");
        for _ in 0..20 {
            p.tick(0.125, 4, 8.0);
        }
        assert_eq!(p.at, 3);
        assert!(p.waits(4) && p.tick(0.1, 4, 8.0).is_none());
        p.tick(0.01, 5, 8.0);
        assert_eq!(p.at, 4, "a new frame is shown at once");
    }

    #[test]
    fn a_window_that_slept_skips_no_more_than_four_frames() {
        let mut p = at(0);
        p.tick(60.0, 100, 8.0);
        assert_eq!(p.at, 4);
    }

    #[test]
    fn following_shows_the_newest() {
        let mut p = Play::default();
        assert_eq!(p.tick(0.0, 9, 8.0), None);
        assert_eq!(p.at, 8);
        p.toggle(9, true);
        p.tick(1.0, 12, 8.0);
        assert_eq!(p.at, 8, "paused while the film grows");
        p.live(12);
        assert_eq!((p.at, p.follow), (11, true));
    }

    #[test]
    fn following_a_film_that_comes_in_batches_shows_every_frame_of_them() {
        let mut p = Play {
            batch: 12,
            ..Play::default()
        };
        let next = p.tick(0.0, 9, 10.0).unwrap();
        assert!(p.at == 0 && (next - 0.1).abs() < 1e-9, "{next}");
        for frame in 1..9 {
            p.tick(0.1, 9, 10.0);
            assert_eq!(p.at, frame);
        }
        assert_eq!(p.tick(1.0, 9, 10.0), None);
        p.tick(0.1, 21, 10.0);
        assert_eq!(p.at, 9, "it goes on where it waited");
        p.tick(0.0, 45, 10.0);
        assert_eq!(
            p.at, 21,
            "where making is faster, it keeps near the live edge"
        );
    }

    #[test]
    fn marks_repeat_a_part() {
        let mut p = at(2);
        p.mark();
        p.at = 4;
        p.mark();
        assert_eq!(p.repeat, Repeat::Between(2, 4));
        let mut shown = Vec::new();
        for _ in 0..5 {
            p.tick(0.125, 9, 8.0);
            shown.push(p.at);
        }
        assert_eq!(shown, [2, 3, 4, 2, 3]);
        p.mark();
        assert_eq!(p.repeat, Repeat::Off);
    }

    #[test]
    fn a_finished_film_begins_again() {
        let mut p = at(4);
        p.moving = false;
        p.toggle(5, false);
        assert_eq!((p.at, p.moving), (0, true));
    }

    #[test]
    fn speed_moves_in_tenths() {
        let mut p = Play::default();
        p.faster(-0.1);
        assert_eq!(p.speed, 0.9);
        (0..40).for_each(|_| p.faster(-0.1));
        assert_eq!(p.speed, 0.1);
    }
}
