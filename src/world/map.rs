//! Where the camera may stand, and paths that respect it.
//!
//! The network knows nothing of walls: a path through one gives something undefined. So paths are checked here, before
//! anything is generated.

use std::fmt;

use super::camera::Step;
use super::error::Error;
use super::pose::Pose;

/// How far from the start the camera may go on either axis, 1/16 cell: poses in training stayed strictly within this.
///
/// Source: `world.py::random_path`, `bound`.
pub const BOUND: i32 = 180;
/// Half the side of the square that must lie in free cells around the camera, in cells.
///
/// Source: `world.py::World.free`.
const WALL_MARGIN: f64 = 0.249;
/// Least distance to a pillar's surface, in cells.
const PILLAR_MARGIN: f64 = 0.25;

/// A round pillar in the middle of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pillar {
    /// Column of its cell.
    pub x: usize,
    /// Row of its cell.
    pub y: usize,
    /// Radius in cells.
    pub radius: f64,
}

/// The floor plan of one world.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// `[y][x]`, `true` for a wall; everything outside counts as wall too.
    pub walls: Vec<Vec<bool>>,
    /// Pillars, in no particular order.
    pub pillars: Vec<Pillar>,
    /// Grid position (x, y) of the film's first pose, in cells.
    pub start: (f64, f64),
}

/// What keeps the camera from standing somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A wall, or the end of the map.
    Wall,
    /// A pillar.
    Pillar,
    /// Farther from the start than the network was trained for.
    Bound,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Obstacle::Wall => "too close to a wall",
            Obstacle::Pillar => "too close to a pillar",
            Obstacle::Bound => "farther from the start than the model was trained for",
        })
    }
}

impl Map {
    /// What is in the way of standing at `pose`; `None` where it is free. The heading does not matter.
    ///
    /// Source: `world.py::World.free`.
    pub fn obstacle(&self, pose: Pose) -> Option<Obstacle> {
        let inside = |u: i32| -BOUND < u && u < BOUND;
        if !inside(pose.x) || !inside(pose.y) {
            return Some(Obstacle::Bound);
        }
        let (dx, dy) = pose.cells();
        let (x, y) = (self.start.0 + dx, self.start.1 + dy);
        let margins = [-WALL_MARGIN, WALL_MARGIN];
        let walled = margins
            .iter()
            .any(|my| margins.iter().any(|mx| self.is_wall(x + mx, y + my)));
        if walled {
            return Some(Obstacle::Wall);
        }
        let near = self.pillars.iter().any(|pillar| {
            let (cx, cy) = (pillar.x as f64 + 0.5, pillar.y as f64 + 0.5);
            (x - cx).hypot(y - cy) < pillar.radius + PILLAR_MARGIN
        });
        near.then_some(Obstacle::Pillar)
    }

    /// Whether the camera may stand at `pose`.
    pub fn is_free(&self, pose: Pose) -> bool {
        self.obstacle(pose).is_none()
    }

    /// Whether the point, in cells of the grid, lies in a wall or outside.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cell is the whole part, and neither number is negative"
    )]
    fn is_wall(&self, x: f64, y: f64) -> bool {
        if x < 0.0 || y < 0.0 {
            return true;
        }
        let row = self.walls.get(y as usize);
        row.and_then(|row| row.get(x as usize))
            .copied()
            .unwrap_or(true)
    }
}

/// What a step does that would end where the camera cannot stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWall {
    /// The path is refused.
    Refuse,
    /// The camera goes along the wall, or stays where it is; turns are always done. Such a path rarely comes back to
    /// exactly equal poses (a slid step is undone by no action), so less of it can be recalled.
    Slide,
}

/// A path that stays where the camera can stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The pose after every step; the pose it starts from is not in it.
    pub poses: Vec<Pose>,
    /// Steps that went along a wall instead of where they were meant to.
    pub n_slid: usize,
    /// Steps that did not move though they were meant to.
    pub n_blocked: usize,
    /// Index of the first step that slid or was blocked.
    pub first_hit: Option<usize>,
}

impl Path {
    /// Walks `steps` on `map` from the pose `from`, which counts as free.
    ///
    /// A slid step does the part of its movement along one axis of the grid, the longer part first, so poses stay on
    /// the lattice.
    ///
    /// # Errors
    ///
    /// With [`OnWall::Refuse`], the first step that ends where the camera cannot stand.
    pub fn along(map: &Map, from: Pose, steps: &[Step], on_wall: OnWall) -> Result<Path, Error> {
        let mut path = Path {
            poses: Vec::with_capacity(steps.len()),
            n_slid: 0,
            n_blocked: 0,
            first_hit: None,
        };
        let mut pose = from;
        for (step_idx, step) in steps.iter().enumerate() {
            let wanted = step.after(pose);
            let moves = (wanted.x, wanted.y) != (pose.x, pose.y);
            if let Some(obstacle) = map.obstacle(wanted).filter(|_| moves) {
                if on_wall == OnWall::Refuse {
                    let (x, y) = wanted.cells();
                    let step = step.to_string();
                    return Err(Error::Collision {
                        step_idx,
                        step,
                        x,
                        y,
                        obstacle,
                    });
                }
                path.first_hit.get_or_insert(step_idx);
                pose = path.slide(map, pose, wanted);
            } else {
                pose = wanted;
            }
            path.poses.push(pose);
        }
        Ok(path)
    }

    /// Where a step from `pose` to `wanted` ends if `wanted` is not free; counts it.
    fn slide(&mut self, map: &Map, pose: Pose, wanted: Pose) -> Pose {
        let along_x = Pose {
            y: pose.y,
            ..wanted
        };
        let along_y = Pose {
            x: pose.x,
            ..wanted
        };
        let x_is_longer = wanted.y.abs_diff(pose.y) <= wanted.x.abs_diff(pose.x);
        let tries = if x_is_longer {
            [along_x, along_y]
        } else {
            [along_y, along_x]
        };
        let stuck = Pose {
            k: wanted.k,
            ..pose
        };
        let slid = tries
            .into_iter()
            .find(|&pose| pose != stuck && map.is_free(pose));
        match slid {
            Some(_) => self.n_slid += 1,
            None => self.n_blocked += 1,
        }
        slid.unwrap_or(stuck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::camera::parse;

    /// A room of 4 x 3 free cells, longer along x; the start is the middle cell of the three farthest back.
    fn room(pillars: Vec<Pillar>) -> Map {
        let row = |text: &str| text.bytes().map(|b| b == b'#').collect();
        Map {
            walls: ["######", "#....#", "#....#", "#....#", "######"]
                .map(row)
                .to_vec(),
            pillars,
            start: (1.5, 2.5),
        }
    }

    fn along(map: &Map, camera: &str, on_wall: OnWall) -> Result<Path, Error> {
        Path::along(map, Pose::default(), &parse(camera).unwrap(), on_wall)
    }

    #[test]
    fn a_margin_is_kept_to_walls() {
        let map = room(Vec::new());
        // The wall ahead is at 3.5 cells from the start, 56 units; 0.249 cells are just below 4 units.
        assert!(map.is_free(Pose { x: 52, y: 0, k: 0 }));
        assert_eq!(
            map.obstacle(Pose { x: 53, y: 0, k: 0 }),
            Some(Obstacle::Wall)
        );
        assert!(map.is_free(Pose { x: -4, y: 0, k: 0 }));
        assert!(!map.is_free(Pose { x: -5, y: 0, k: 0 }));
    }

    #[test]
    fn a_margin_is_kept_to_pillars() {
        let map = room(vec![Pillar {
            x: 3,
            y: 2,
            radius: 0.25,
        }]);
        // The pillar's centre is 32 units ahead, 8 of them are radius and margin.
        assert!(map.is_free(Pose { x: 24, y: 0, k: 0 }));
        assert_eq!(
            map.obstacle(Pose { x: 25, y: 0, k: 0 }),
            Some(Obstacle::Pillar)
        );
    }

    #[test]
    fn nowhere_outside_the_map_is_free() {
        let map = room(Vec::new());
        for (x, y) in [(-100, 0), (100, 100), (0, -100), (179, 179)] {
            assert_eq!(map.obstacle(Pose { x, y, k: 0 }), Some(Obstacle::Wall));
        }
        for (x, y) in [(180, 0), (0, -180), (i32::MAX, i32::MIN)] {
            assert_eq!(map.obstacle(Pose { x, y, k: 0 }), Some(Obstacle::Bound));
        }
    }

    #[test]
    fn a_step_into_a_wall_is_named() {
        let map = room(Vec::new());
        let message = along(&map, "left-2,right-2,w-20", OnWall::Refuse)
            .unwrap_err()
            .to_string();
        // 13 steps reach 52 units; the next one is step 4 + 13.
        assert!(
            message.starts_with("step 17 of the path (w) ends at x 3.50, y 0.00 cells"),
            "{message}"
        );
        assert!(message.contains("wall"), "{message}");
        let path = along(&map, "w-13,s-13", OnWall::Refuse).unwrap();
        assert_eq!((path.poses.len(), path.poses[25]), (26, Pose::default()));
        assert_eq!((path.n_slid, path.n_blocked, path.first_hit), (0, 0, None));
    }

    #[test]
    fn walking_at_a_wall_askew_slides_along_it() {
        // Heading 1 moves by (4, 2); the wall across is 20 units away from where y may not go on.
        let path = along(&room(Vec::new()), "left,w-12", OnWall::Slide).unwrap();
        let end = path.poses[12];
        assert_eq!((end.x, end.y), (48, 20));
        assert_eq!(
            (path.n_slid, path.n_blocked, path.first_hit),
            (2, 0, Some(11))
        );
    }

    #[test]
    fn walking_straight_at_a_wall_stops_there_and_still_turns() {
        let path = along(&room(Vec::new()), "w-15,w+left", OnWall::Slide).unwrap();
        assert_eq!(path.poses[14], Pose { x: 52, y: 0, k: 0 });
        // The curve's (4, 2) keeps its part along the wall.
        assert_eq!(path.poses[15], Pose { x: 52, y: 2, k: 1 });
        assert_eq!(
            (path.n_slid, path.n_blocked, path.first_hit),
            (1, 2, Some(13))
        );
    }

    #[test]
    fn sliding_never_ends_where_the_camera_cannot_stand() {
        let map = room(vec![Pillar {
            x: 3,
            y: 2,
            radius: 0.3,
        }]);
        for k in 0..16 {
            let camera = format!("left-{},w-40,a-40,w+left-40,s+d-40", k + 1);
            let path = along(&map, &camera, OnWall::Slide).unwrap();
            assert!(path.poses.iter().all(|&pose| map.is_free(pose)));
        }
    }
}
