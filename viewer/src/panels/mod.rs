//! The panes, each a function over [`State`], and how they share the window.

pub mod bits;
pub mod compare;
pub mod error;
pub mod film;
pub mod first;
pub mod graph;
pub mod keys;
pub mod loading;
pub mod memory;
pub mod prompt;
pub mod settings;
pub mod statistics;
pub mod status;
pub mod timeline;
pub mod top;

use std::time::Duration;

use egui::{CentralPanel, Frame, Margin, Panel, Ui};

use crate::state::{Phase, State};
use crate::tokens;

/// Shows the whole window. `secs`: time since the last pass.
pub fn show(ui: &mut Ui, s: &mut State, secs: f64) {
    crate::keys::read(ui.ctx(), s);
    s.gallery.begin(ui.ctx());
    let fps = f64::from(s.film.fps.max(1));
    let n = s.len();
    if let Phase::Loading(done, _) = s.phase {
        // The given frames pass by as they go into the cache.
        s.play.at = done.min(n.saturating_sub(1));
    } else if let Some(next) = s.play.tick(secs, n, fps) {
        ui.ctx()
            .request_repaint_after(Duration::from_secs_f64(next.max(0.001)));
    }
    if s.phase == Phase::Empty || s.show.settings {
        s.replan();
    }
    let size = ui.available_size();
    let narrow = size.x < 1180.0 || size.y < 720.0;
    let t = tokens::of(ui);
    let panel = Frame::new()
        .fill(t.panel)
        .inner_margin(Margin::symmetric(12, 0));
    let bare = s.show.fullscreen;
    if !bare && s.show.panels {
        Panel::top("top")
            .exact_size(40.0)
            .frame(panel)
            .show(ui, |ui| top::show(ui, s, narrow));
        Panel::bottom("status")
            .exact_size(24.0)
            .frame(panel)
            .show(ui, |ui| status::show(ui, s, narrow));
    }
    if !bare {
        Panel::bottom("timeline")
            .exact_size(if narrow { 108.0 } else { 176.0 })
            .frame(panel)
            .show(ui, |ui| timeline::show(ui, s, narrow));
    }
    if !bare && s.show.panels && prompt::is_shown(s) {
        Panel::bottom("prompt")
            .exact_size(prompt::HEIGHT)
            .frame(panel)
            .show(ui, |ui| prompt::show(ui, s));
    }
    if !bare && s.show.panels {
        if s.show.settings && !narrow {
            Panel::left("settings")
                .resizable(false)
                .exact_size(272.0)
                .frame(panel)
                .show(ui, |ui| settings::show(ui, s));
        }
        let wide = match size.x {
            w if w >= 1800.0 => 400.0,
            _ if narrow => 300.0,
            _ => 360.0,
        };
        Panel::right("memory")
            .resizable(true)
            .default_size(wide)
            .size_range(300.0..=480.0)
            .frame(panel)
            .show(ui, |ui| memory::show(ui, s, narrow));
    }
    CentralPanel::no_frame().show(ui, |ui| film::show(ui, s));
    if s.show.settings && narrow && !bare {
        let mut open = true;
        egui::Window::new("Settings")
            .open(&mut open)
            .default_pos([16.0, 52.0])
            .default_width(272.0)
            .resizable(false)
            .show(ui.ctx(), |ui| settings::show(ui, s));
        s.show.settings &= open;
    }
    if s.show.keys {
        keys::show(ui.ctx(), s);
    }
}
