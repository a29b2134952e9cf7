//! The side pane: the next film, its memory, the device, the way so far.

use egui::{Align, ComboBox, DragValue, Layout, RichText, ScrollArea, Ui};
use longtake::rollout::event::Event;

use crate::job::FAMILIES;
use crate::say;
use crate::state::{Phase, State};
use crate::tokens;
use crate::widgets::{Press, divider, title};

/// Shows it.
pub fn show(ui: &mut Ui, s: &mut State) {
    ScrollArea::vertical()
        .auto_shrink([false, true])
        .show(ui, |ui| {
            ui.add_space(10.0);
            title(ui, "Next film", "");
            super::prompt::model(ui, s);
            match s.job.text {
                Some(_) => super::prompt::rows(ui, s),
                None => {
                    // The first ones are built in, every other number draws a world of its own.
                    let mut film = s.job.film as u64;
                    number(ui, "World", &mut film, 0..=u64::from(u32::MAX), "");
                    s.job.film = film as usize;
                }
            }
            number(ui, "Seed", &mut s.job.seed, 0..=u64::from(u32::MAX), "");
            if s.job.text.is_none() {
                let mut given = s.job.given as u64;
                number(ui, "Given", &mut given, 1..=96, " frames");
                s.job.given = given as usize;
            }
            let mut most = s.job.most as u64;
            number(ui, "Length at most", &mut most, 1..=28_800, " frames");
            s.job.most = most as usize;
            divider(ui);
            title(ui, "Its memory", "");
            small(ui, "Window", &mut s.job.window, 0..=4096);
            small(ui, "Sink", &mut s.job.sink, 0..=512);
            small(ui, "Keep exact", &mut s.job.recent, 0..=64);
            small(ui, "Span", &mut s.job.span, 1..=64);
            line(ui, "Codec", |ui| {
                ComboBox::from_id_salt("codec")
                    .width(140.0)
                    .selected_text(match &s.job.named {
                        Some((at, [k, v])) if *at == s.job.widths && k != v => format!("{k}/{v}"),
                        Some((at, [k, _])) if *at == s.job.widths => k.clone(),
                        _ => FAMILIES[s.job.family].1.to_owned(),
                    })
                    .show_ui(ui, |ui| {
                        for (i, (_, name)) in FAMILIES.iter().enumerate() {
                            if ui.selectable_value(&mut s.job.family, i, *name).clicked() {
                                s.job.named = None;
                            }
                        }
                    })
                    .response
                    .accessible_name("Codec");
            });
            fits(ui, s);
            divider(ui);
            device(ui, s);
            divider(ui);
            theme(ui);
            divider(ui);
            match s.is_text() {
                true => super::prompt::so_far(ui, s),
                false => path(ui, s),
            }
            divider(ui);
            ui.horizontal(|ui| {
                if Press::word("New film").key("Ctrl N").show(ui).clicked() {
                    s.start();
                }
                let again = Press {
                    enabled: s.phase != Phase::Empty,
                    ..Press::word("Same seed").key("R")
                };
                if again.show(ui).clicked() {
                    s.again();
                }
            });
            ui.add_space(10.0);
        });
}

/// Colours of the window.
fn theme(ui: &mut Ui) {
    use egui::ThemePreference as Theme;
    let word = |theme: Theme| match theme {
        Theme::System => "as the system",
        Theme::Dark => "dark",
        Theme::Light => "light",
    };
    let now = ui.ctx().options(|o| o.theme_preference);
    let mut chosen = now;
    line(ui, "Theme", |ui| {
        ComboBox::from_id_salt("theme")
            .width(140.0)
            .selected_text(word(now))
            .show_ui(ui, |ui| {
                for theme in [Theme::System, Theme::Dark, Theme::Light] {
                    ui.selectable_value(&mut chosen, theme, word(theme));
                }
            })
            .response
            .accessible_name("Theme");
    });
    if chosen != now {
        ui.ctx().set_theme(chosen);
    }
}

/// A name and its control in fixed columns.
pub(super) fn line(ui: &mut Ui, name: &str, control: impl FnOnce(&mut Ui)) {
    let t = tokens::of(ui);
    ui.horizontal(|ui| {
        ui.set_min_height(24.0);
        ui.allocate_ui_with_layout(
            egui::vec2(92.0, 24.0),
            Layout::left_to_right(Align::Center),
            |ui| {
                ui.set_min_width(92.0);
                ui.label(RichText::new(name).color(t.text));
            },
        );
        control(ui);
    });
}

fn number(
    ui: &mut Ui,
    name: &str,
    value: &mut u64,
    range: std::ops::RangeInclusive<u64>,
    unit: &str,
) {
    line(ui, name, |ui| {
        let speed = if *range.end() > 1000 { 10.0 } else { 0.5 };
        let control = DragValue::new(value).range(range).speed(speed).suffix(unit);
        ui.add_sized([140.0, 24.0], control).accessible_name(name);
    });
}

fn small(ui: &mut Ui, name: &str, value: &mut u32, range: std::ops::RangeInclusive<u32>) {
    let mut wide = u64::from(*value);
    number(
        ui,
        name,
        &mut wide,
        u64::from(*range.start())..=u64::from(*range.end()),
        " frames",
    );
    *value = u32::try_from(wide).unwrap_or(*range.end());
}

fn fits(ui: &mut Ui, s: &State) {
    let t = tokens::of(ui);
    let (text, ink) = match &s.plan {
        Some(Ok(Event::Plan { planned, .. })) => (
            format!(
                "At {}: {} at most",
                s.job.widths.name(),
                say::bytes(planned.peak_device_bytes)
            ),
            t.ok,
        ),
        Some(Err(fault)) => (
            fault.causes.first().unwrap_or(&fault.headline).clone(),
            t.error,
        ),
        _ => ("planning".to_owned(), t.weak),
    };
    ui.label(RichText::new(text).small().color(ink));
}

fn device(ui: &mut Ui, s: &mut State) {
    let t = tokens::of(ui);
    title(ui, "Device", "");
    let mut chosen = None;
    ComboBox::from_id_salt("device")
        .width(232.0)
        .truncate()
        .selected_text(&s.device.title)
        .show_ui(ui, |ui| {
            for (i, name) in s.devices.iter().enumerate() {
                if ui.selectable_label(*name == s.device.title, name).clicked() {
                    chosen = Some(i);
                }
            }
            if ui
                .selectable_label(
                    s.device.title.starts_with("cpu "),
                    "cpu: reference loops, slow",
                )
                .clicked()
            {
                chosen = Some(s.devices.len());
            }
        })
        .response
        .accessible_name("Device");
    if let Some(i) = chosen {
        s.choose_device(i);
    }
    ui.label(
        RichText::new("Another device ends the film that is running.")
            .small()
            .color(t.weak),
    );
}

fn path(ui: &mut Ui, s: &mut State) {
    let t = tokens::of(ui);
    let steps = s.film.made();
    title(ui, "Way so far", &say::n(steps, "step"));
    let camera = s.film.camera();
    let shown = match camera.len() {
        0 => say::UNKNOWN.to_owned(),
        n if n > 120 => {
            let from = camera[n - 110..]
                .find(',')
                .map_or(n - 110, |i| n - 110 + i + 1);
            format!("… {}", camera[from..].replace(',', ", "))
        }
        _ => camera.replace(',', ", "),
    };
    egui::Frame::new()
        .fill(t.control[0])
        .corner_radius(4.0)
        .inner_margin(8.0)
        .show(ui, |ui| {
            ui.set_min_size(egui::vec2(ui.available_width(), 40.0));
            ui.label(RichText::new(shown).monospace().size(11.0).color(t.text));
        });
    ui.horizontal(|ui| {
        let save = Press {
            enabled: steps > 0,
            ..Press::word("Save path")
        };
        if save
            .show(ui)
            .on_hover_text("A file for `longtake generate --camera`, with the whole command in it")
            .clicked()
        {
            s.save_path();
        }
        let copy = Press {
            enabled: steps > 0,
            ..Press::word("Copy command")
        };
        if copy.show(ui).clicked() {
            ui.ctx().copy_text(s.film.job.command(&camera));
        }
    });
}
