//! Poses on the rooms lattice, the single actions that lead from one to the next, and the numbers the network is told.
//!
//! All movement is in integers, so a path that undoes itself returns to exactly equal poses; the network recalls
//! those best.

/// Lattice steps in one cell of the grid.
pub const UNITS_PER_CELL: i32 = 16;
/// Headings in a full turn, 22.5 degrees each.
pub const HEADINGS: u8 = 16;
/// Length of [`pose_features`].
pub const N_POSE_FEATURES: usize = 42;

/// One step forward at each heading, in 1/16 cell: about a quarter cell, `FORWARD[k + 8] = -FORWARD[k]`.
///
/// Source: `world.py`, `FWD`.
const FORWARD: [(i32, i32); HEADINGS as usize] = [
    (4, 0),
    (4, 2),
    (3, 3),
    (2, 4),
    (0, 4),
    (-2, 4),
    (-3, 3),
    (-4, 2),
    (-4, 0),
    (-4, -2),
    (-3, -3),
    (-2, -4),
    (0, -4),
    (2, -4),
    (3, -3),
    (4, -2),
];

/// Where the camera stands and looks, relative to the film's first frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pose {
    /// Along the first frame's view, 1/16 cell.
    pub x: i32,
    /// To its left, 1/16 cell.
    pub y: i32,
    /// Heading in 22.5 degree steps, counter-clockwise, 0..16.
    pub k: u8,
}

/// The smallest thing a camera can do in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `w`: a quarter cell along the view.
    Forward,
    /// `s`: a quarter cell against it.
    Back,
    /// `a`: a quarter cell to the left, without turning.
    StrafeLeft,
    /// `d`: a quarter cell to the right, without turning.
    StrafeRight,
    /// `left`: 22.5 degrees counter-clockwise.
    TurnLeft,
    /// `right`: 22.5 degrees clockwise.
    TurnRight,
    /// `stay`: the same pose for another frame.
    Stay,
}

impl Action {
    /// Every action, in the order in which a combined step is written.
    pub const ALL: [Action; 7] = [
        Action::Forward,
        Action::Back,
        Action::StrafeLeft,
        Action::StrafeRight,
        Action::TurnLeft,
        Action::TurnRight,
        Action::Stay,
    ];

    /// Its name in a camera text.
    pub fn name(self) -> &'static str {
        match self {
            Action::Forward => "w",
            Action::Back => "s",
            Action::StrafeLeft => "a",
            Action::StrafeRight => "d",
            Action::TurnLeft => "left",
            Action::TurnRight => "right",
            Action::Stay => "stay",
        }
    }

    /// The action that undoes it: `pose.after(a).after(a.inverse()) == pose` for every pose and action.
    pub fn inverse(self) -> Action {
        match self {
            Action::Forward => Action::Back,
            Action::Back => Action::Forward,
            Action::StrafeLeft => Action::StrafeRight,
            Action::StrafeRight => Action::StrafeLeft,
            Action::TurnLeft => Action::TurnRight,
            Action::TurnRight => Action::TurnLeft,
            Action::Stay => Action::Stay,
        }
    }

    /// Headings to add to the own one to get the direction of the movement; `None` for what does not move.
    fn bearing(self) -> Option<u8> {
        match self {
            Action::Forward => Some(0),
            Action::StrafeLeft => Some(4),
            Action::Back => Some(8),
            Action::StrafeRight => Some(12),
            Action::TurnLeft | Action::TurnRight | Action::Stay => None,
        }
    }

    /// Movement in 1/16 cell of this action at heading `k`; zero for turns and `stay`.
    pub(super) fn offset(self, k: u8) -> (i32, i32) {
        self.bearing().map_or((0, 0), |bearing| {
            FORWARD[usize::from((k % HEADINGS + bearing) % HEADINGS)]
        })
    }

    /// Heading after this action at heading `k`.
    pub(super) fn turn(self, k: u8) -> u8 {
        match self {
            Action::TurnLeft => (k % HEADINGS + 1) % HEADINGS,
            Action::TurnRight => (k % HEADINGS + HEADINGS - 1) % HEADINGS,
            _ => k % HEADINGS,
        }
    }
}

impl Pose {
    /// The pose after one action. Walls are not looked at; that is [`super::map::Path::along`].
    ///
    /// Source: `world.py::step`.
    pub fn after(self, action: Action) -> Pose {
        let (dx, dy) = action.offset(self.k);
        Pose {
            x: self.x.saturating_add(dx),
            y: self.y.saturating_add(dy),
            k: action.turn(self.k),
        }
    }

    /// Position in cells relative to the first frame.
    pub fn cells(self) -> (f64, f64) {
        let unit = f64::from(UNITS_PER_CELL);
        (f64::from(self.x) / unit, f64::from(self.y) / unit)
    }
}

/// The 42 numbers that tell the network a pose: for x, then y, the sine and cosine of `2 pi u / L` for seven lengths L
/// in cells; then the sine and cosine of seven multiples of the heading. Computed in f64, rounded once.
///
/// Unique within 16 cells of the start in every direction.
///
/// Source: the rooms model's `README.md`, "Pose features".
#[expect(
    clippy::cast_possible_truncation,
    reason = "the network's inputs are f32"
)]
pub fn pose_features(pose: Pose) -> [f32; N_POSE_FEATURES] {
    const LENGTHS: [f64; 7] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
    const HARMONICS: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];
    let tau = std::f64::consts::TAU;
    let (x, y) = pose.cells();
    let yaw = f64::from(pose.k) * tau / f64::from(HEADINGS);
    let angles = LENGTHS
        .map(|l| tau * x / l)
        .into_iter()
        .chain(LENGTHS.map(|l| tau * y / l))
        .chain(HARMONICS.map(|h| h * yaw));
    let mut out = [0.0; N_POSE_FEATURES];
    for (pair, angle) in out.chunks_exact_mut(2).zip(angles) {
        pair[0] = angle.sin() as f32;
        pair[1] = angle.cos() as f32;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut pose: Pose, steps: &[(Action, usize)]) -> Pose {
        for &(action, n) in steps {
            for _ in 0..n {
                pose = pose.after(action);
            }
        }
        pose
    }

    #[test]
    fn every_action_is_undone_by_its_inverse() {
        for k in 0..HEADINGS {
            for action in Action::ALL {
                let pose = Pose { x: 5, y: -7, k };
                assert_eq!(pose.after(action).after(action.inverse()), pose);
            }
        }
    }

    #[test]
    fn out_turn_back_turn_returns_to_the_same_pose() {
        use Action::{Forward, TurnLeft};
        for k in 0..HEADINGS {
            let pose = Pose { x: 0, y: 0, k };
            let legs = [(Forward, 4), (TurnLeft, 8), (Forward, 4), (TurnLeft, 8)];
            assert_eq!(run(pose, &legs), pose);
        }
    }

    #[test]
    fn turning_left_and_stepping_forward_is_stepping_left() {
        for k in 0..HEADINGS {
            let pose = Pose { x: 0, y: 0, k };
            let turned = run(pose, &[(Action::TurnLeft, 4), (Action::Forward, 1)]);
            let side = pose.after(Action::StrafeLeft);
            assert_eq!((turned.x, turned.y), (side.x, side.y));
        }
    }

    #[test]
    fn absurd_poses_do_not_overflow() {
        let pose = Pose {
            x: i32::MAX,
            y: i32::MIN,
            k: 255,
        };
        for action in Action::ALL {
            assert!(pose.after(action).k < HEADINGS);
        }
    }

    /// The same numbers to f32 rounding; sine of a multiple of pi is not exactly zero in f64.
    fn assert_features(pose: Pose, expected: [f32; N_POSE_FEATURES]) {
        for (i, (found, expected)) in pose_features(pose).into_iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= 1e-7,
                "feature {i}: {found} against {expected}"
            );
        }
    }

    #[test]
    fn features_equal_the_reference() {
        // Row 4 of `pose_features` in the model's golden file.
        #[rustfmt::skip]
        assert_features(Pose { x: 0, y: 4, k: 1 }, [
            0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0,
            0.0, -1.0, 1.0, 0.0, 0.70710677, 0.70710677, 0.38268343, 0.9238795,
            0.19509032, 0.9807853, 0.09801714, 0.9951847, 0.049067676, 0.99879545,
            0.38268343, 0.9238795, 0.70710677, 0.70710677, 0.9238795, 0.38268343, 1.0, 0.0,
            0.9238795, -0.38268343, 0.70710677, -0.70710677, 0.0, -1.0,
        ]);
        // The golden poses all have x = 0; this one is from the reference's formula.
        #[rustfmt::skip]
        assert_features(Pose { x: 37, y: -91, k: 5 }, [
            -0.70710677, -0.70710677, 0.9238795, -0.38268343, 0.8314696, 0.55557024, -0.47139674, -0.8819213,
            0.97003126, -0.24298018, 0.7883464, 0.6152316, 0.43861625, 0.8986745,
            -0.70710677, -0.70710677, 0.9238795, -0.38268343, 0.8314696, 0.55557024, -0.47139674, -0.8819213,
            0.97003126, -0.24298018, -0.7883464, -0.6152316, -0.8986745, 0.43861625,
            0.9238795, -0.38268343, -0.70710677, -0.70710677, -0.38268343, 0.9238795, 1.0, 0.0,
            -0.38268343, -0.9238795, -0.70710677, 0.70710677, 0.0, -1.0,
        ]);
    }
}
