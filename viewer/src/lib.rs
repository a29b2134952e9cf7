//! The window on longtake: the film as it is made, its memory live, and the bits to turn.
//!
//! Three threads: the window's (input and panels, never waits), the worker's (owns the session) and the painter's (owns the
//! surface). They exchange messages and hold no lock together. Reading order: [`job`] and [`worker`], then [`state`],
//! [`panels`], [`paint`], [`app`]. Deliberately absent: model code, and wgpu anywhere but in `paint`.

pub mod app;
pub mod drift;
pub mod fault;
pub mod job;
pub mod keys;
pub mod loading;
pub mod memory;
pub mod offer;
pub mod paint;
pub mod panels;
pub mod pictures;
pub mod play;
pub mod prefs;
pub mod record;
pub mod save;
pub mod say;
pub mod state;
pub mod text;
pub mod text_run;
pub mod tokens;
pub mod versus;
pub mod widgets;
pub mod worker;
