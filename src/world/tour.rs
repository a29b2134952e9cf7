//! The default tour: a walk that only visits poses that were already seen.
//!
//! The network recalls an exactly equal pose well and makes a blur of a place that it never saw, so a first film should
//! revisit. The tour always heads for the seen pose that was not looked at for the longest time, which is also the
//! hardest test of the cache, along the way with the fewest changes of direction.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::pose::{Action, Pose};

/// Single actions that a tour is made of.
const MOVES: [Action; 6] = [
    Action::Forward,
    Action::Back,
    Action::StrafeLeft,
    Action::StrafeRight,
    Action::TurnLeft,
    Action::TurnRight,
];
/// Index for "no action yet" beside the indices into `MOVES`.
const NONE: usize = MOVES.len();
/// Values of "the action before".
const N_BEFORE: usize = NONE + 1;

/// Seen poses and the single actions between them. An action's inverse leads back, so every way out is a way home.
struct Seen {
    /// `[node][action]`, the node that the action leads to if it is a seen one.
    edges: Vec<[Option<usize>; MOVES.len()]>,
    /// When each node was last looked at, in frames.
    last_seen: Vec<usize>,
}

impl Seen {
    fn new(walk: &[Pose]) -> (Seen, BTreeMap<Pose, usize>) {
        let mut nodes = BTreeMap::new();
        let mut poses = Vec::new();
        let mut last_seen = Vec::new();
        for (time, &pose) in walk.iter().enumerate() {
            let node = *nodes.entry(pose).or_insert_with(|| {
                poses.push(pose);
                last_seen.push(time);
                poses.len() - 1
            });
            last_seen[node] = time;
        }
        let edges = poses
            .iter()
            .map(|pose| MOVES.map(|action| nodes.get(&pose.after(action)).copied()))
            .collect();
        (Seen { edges, last_seen }, nodes)
    }

    /// The node not seen for the longest time that can be reached from `here`, other than `here`, and the cheapest way
    /// there as indices into `MOVES`. Empty where no action leads to a seen pose.
    fn way_to_oldest(&self, here: usize, before: usize) -> Vec<usize> {
        let start = here * N_BEFORE + before;
        let mut cost = vec![u32::MAX; self.edges.len() * N_BEFORE];
        let mut from = vec![start; cost.len()];
        let mut queue = BinaryHeap::from([Reverse((0, start))]);
        cost[start] = 0;
        while let Some(Reverse((so_far, state))) = queue.pop() {
            if cost[state] < so_far {
                continue;
            }
            let (node, before) = (state / N_BEFORE, state % N_BEFORE);
            for (action, to) in self.edges[node].iter().enumerate() {
                let Some(to) = to else { continue };
                let next = to * N_BEFORE + action;
                let total = so_far + price(before, action);
                if total < cost[next] {
                    cost[next] = total;
                    from[next] = state;
                    queue.push(Reverse((total, next)));
                }
            }
        }
        let reached = (0..cost.len()).filter(|&s| cost[s] < u32::MAX && s / N_BEFORE != here);
        let goal = reached.min_by_key(|&s| (self.last_seen[s / N_BEFORE], cost[s], s));
        let mut way = Vec::new();
        let mut state = goal.unwrap_or(start);
        while state != start {
            way.push(state % N_BEFORE);
            state = from[state];
        }
        way.reverse();
        way
    }
}

/// What one action costs after another: walking forward and turning look natural, a change of mind does not.
fn price(before: usize, action: usize) -> u32 {
    let own = match MOVES[action] {
        Action::Forward | Action::TurnLeft | Action::TurnRight => 2,
        _ => 3,
    };
    let change = match MOVES.get(before) {
        None => 0,
        Some(_) if before == action => 0,
        Some(last) if last.inverse() == MOVES[action] => 6,
        Some(_) => 2,
    };
    own + change
}

/// `n` actions on from the end of `walk`, which is a film's poses so far, the first included. All poses they lead to
/// are in `walk`; only where no single action leads from its end to a seen pose, the camera turns left all the time.
pub fn tour(walk: &[Pose], n: usize) -> Vec<Action> {
    let (mut seen, nodes) = Seen::new(walk);
    let here = walk.last().and_then(|pose| nodes.get(pose));
    let mut before = match walk {
        [.., a, b] => MOVES.iter().position(|&m| a.after(m) == *b).unwrap_or(NONE),
        _ => NONE,
    };
    let mut tour = Vec::with_capacity(n);
    if let Some(&here) = here {
        let mut here = here;
        while tour.len() < n {
            let way = seen.way_to_oldest(here, before);
            if way.is_empty() {
                break;
            }
            for action in way {
                here = seen.edges[here][action].unwrap_or(here);
                seen.last_seen[here] = walk.len() + tour.len();
                before = action;
                tour.push(MOVES[action]);
            }
        }
    }
    tour.resize(n, Action::TurnLeft);
    tour
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(actions: &[Action]) -> Vec<Pose> {
        let mut poses = vec![Pose::default()];
        for &action in actions {
            poses.extend(poses.last().map(|pose| pose.after(action)));
        }
        poses
    }

    #[test]
    fn a_straight_walk_is_undone_and_done_again() {
        use Action::{Back, Forward};
        let tour = tour(&walk(&[Forward; 3]), 9);
        let expected = [
            Back, Back, Back, Forward, Forward, Forward, Back, Back, Back,
        ];
        assert_eq!(tour, expected);
    }

    #[test]
    fn a_full_turn_goes_on_in_its_direction() {
        let tour = tour(&walk(&[Action::TurnRight; 15]), 40);
        assert!(tour.iter().all(|&action| action == Action::TurnRight));
    }

    #[test]
    fn alone_the_camera_turns_on_the_spot() {
        assert_eq!(tour(&[Pose::default()], 5), [Action::TurnLeft; 5]);
        assert_eq!(tour(&[Pose::default(); 3], 5), [Action::TurnLeft; 5]);
        assert!(tour(&[], 0).is_empty());
    }
}
