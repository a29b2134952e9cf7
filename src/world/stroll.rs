//! A first look around a new world: a full turn, then a walk through free space that often returns to where it was.

use super::draws::Draws;
use super::map::Map;
use super::pose::{Action, HEADINGS, Pose};

/// Keeps the draws of a walk apart from those of the world itself.
const STREAM: u64 = 0x7761_6c6b;

/// `n` single actions from pose (0, 0, 0), none of which ends where the camera cannot stand.
///
/// Walks, turns and ways there and back have the lengths of the walks that the demo model was trained on.
pub(super) fn stroll(map: &Map, seed: u64, n: usize) -> Vec<Action> {
    let mut walker = Walker {
        map,
        draws: Draws::new(seed ^ STREAM),
        pose: Pose::default(),
        actions: Vec::with_capacity(n),
    };
    walker.run(Action::TurnLeft, usize::from(HEADINGS));
    walker.head_out();
    while walker.actions.len() < n {
        walker.go_on();
    }
    walker.actions.truncate(n);
    walker.actions
}

struct Walker<'m> {
    map: &'m Map,
    draws: Draws,
    pose: Pose,
    actions: Vec<Action>,
}

impl Walker<'_> {
    /// Turns to where there is most room, and goes there.
    fn head_out(&mut self) {
        let room = |k: u8| {
            let mut pose = Pose { k, ..self.pose };
            let free = |_: &usize| {
                pose = pose.after(Action::Forward);
                self.map.is_free(pose)
            };
            (0..8).take_while(free).count()
        };
        // Of equals the one with the shortest turn to the left.
        let turns = (0..HEADINGS).rev().max_by_key(|k| room(*k)).unwrap_or(0);
        let (turn, n) = match turns <= HEADINGS / 2 {
            true => (Action::TurnLeft, turns),
            false => (Action::TurnRight, HEADINGS - turns),
        };
        self.run(turn, usize::from(n));
        self.run(Action::Forward, 8);
    }

    /// One idea of what to do next.
    fn go_on(&mut self) {
        let kind = self.draws.unit();
        if kind < 0.25 {
            // Back along the last steps.
            let n = self.draws.below(1, self.actions.len().min(24) + 1);
            let back: Vec<Action> = self.actions.iter().rev().take(n).copied().collect();
            back.into_iter().for_each(|a| {
                self.run(a.inverse(), 1);
            });
        } else if kind < 0.4 {
            // Out, around, and back to where it began.
            let wanted = self.draws.below(2, 9);
            let n = self.run(Action::Forward, wanted);
            let turn = self.turn();
            self.run(turn, 8);
            self.run(Action::Forward, n);
            self.run(turn, 8);
        } else {
            let of = [
                Action::Forward,
                Action::TurnLeft,
                Action::TurnRight,
                Action::StrafeLeft,
                Action::StrafeRight,
                Action::Back,
            ];
            let action = of[self.draws.weighted(&[0.45, 0.2, 0.2, 0.06, 0.06, 0.03])];
            let most = match action {
                Action::Forward => 9,
                Action::TurnLeft | Action::TurnRight => 6,
                _ => 4,
            };
            let n = self.draws.below(1, most);
            if self.run(action, n) == 0 {
                let (turn, n) = (self.turn(), self.draws.below(2, 6));
                self.run(turn, n);
            }
        }
    }

    fn turn(&mut self) -> Action {
        self.draws.choice(&[Action::TurnLeft, Action::TurnRight])
    }

    /// Does an action as often as asked, or until something is in the way; how often it was done.
    fn run(&mut self, action: Action, n: usize) -> usize {
        for done in 0..n {
            let next = self.pose.after(action);
            if !self.map.is_free(next) {
                return done;
            }
            self.pose = next;
            self.actions.push(action);
        }
        n
    }
}
