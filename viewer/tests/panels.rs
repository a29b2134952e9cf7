//! The window without a window: pictures of it against stored ones, and the keyboard.
//!
//! `UPDATE_SNAPSHOTS=1` writes the pictures. They need an adapter; without one they are skipped, and under
//! `LONGTAKE_REQUIRE_GPU=1` that is a failure. The keyboard needs none.

mod support;

use std::sync::atomic::Ordering;

use egui::{Key, Modifiers, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use longtake::gpu::{Device, list_devices};
use longtake::rollout::event::{Event, LoadStage};
use longtake::rollout::{Error, fit};
use longtake_viewer::fault::Fault;
use longtake_viewer::job::{Width, Widths};
use longtake_viewer::state::{Effect, Phase, State};
use longtake_viewer::worker::{self, Command, Message};
use longtake_viewer::{loading, panels, tokens};

fn harness(
    state: State,
    size: [f32; 2],
    theme: Theme,
    ppp: f32,
    draws: bool,
) -> Harness<'static, State> {
    let mut builder = Harness::builder()
        .with_size(size)
        .with_theme(theme)
        .with_pixels_per_point(ppp)
        .with_context_setup(tokens::apply);
    if draws {
        builder = builder.wgpu();
    }
    let mut harness = builder.build_ui_state(|ui, s: &mut State| panels::show(ui, s, 0.0), state);
    harness.run_steps(3);
    harness
}

fn picture(name: &str, state: State, size: [f32; 2], theme: Theme, ppp: f32) {
    if list_devices().is_empty() {
        assert!(
            std::env::var_os("LONGTAKE_REQUIRE_GPU").is_none(),
            "no adapter to draw on"
        );
        eprintln!("SKIPPED: needs an adapter");
        return;
    }
    // Drivers round blends differently: Mesa 22's GL lies up to 1.0 beside Mesa 25's Vulkan, a moved or changed letter far above.
    let options = egui_kittest::SnapshotOptions::new().threshold(1.5);
    harness(state, size, theme, ppp, true).snapshot_options(name, &options);
}

#[test]
fn picture_of_the_first_screen() {
    picture(
        "first-dark",
        support::empty(),
        [1180.0, 720.0],
        Theme::Dark,
        1.0,
    );
}

#[test]
fn picture_of_a_running_film_while_it_is_steered() {
    let mut s = support::running(66);
    s.steer();
    s.reins.key(0, true);
    picture("running-dark", s, [1440.0, 900.0], Theme::Dark, 1.0);
}

#[test]
fn picture_of_a_running_film_in_daylight_with_settings() {
    let mut s = support::running(66);
    s.show.settings = true;
    s.show.layers = true;
    picture("running-light", s, [1600.0, 1000.0], Theme::Light, 1.0);
}

#[test]
fn picture_of_the_table_by_layer_and_of_a_film_that_drifted() {
    let mut s = support::running(66);
    s.show.layers = true;
    let last = s.drift.last_mut().expect("stretches were compared");
    last.look.color[0] = last.high.color[0] + 4.0;
    last.left = vec!["color"];
    picture("layers-dark", s, [1440.0, 1640.0], Theme::Dark, 1.0);
}

#[test]
fn opening_the_table_has_errors_measured_and_closing_it_ends_that() {
    // High enough for the whole pane.
    let size = [1440.0, 1400.0];
    let mut h = harness(support::running(40), size, Theme::Dark, 1.0, false);
    for on in [true, false] {
        h.get_by_label("Coded keys and values").click();
        h.run_steps(2);
        let sent = commands(&mut h);
        assert!(
            matches!(&sent[..], [Command::Measure(to)] if *to == on),
            "{sent:?}"
        );
    }
}

#[test]
fn picture_of_a_narrow_window_with_statistics_at_two_pixels_a_point() {
    let mut s = support::running(30);
    s.show.statistics = true;
    picture("narrow-dark-2x", s, [1024.0, 640.0], Theme::Dark, 2.0);
}

#[test]
fn picture_of_a_comparison() {
    picture(
        "compare-dark",
        support::compared(52),
        [1440.0, 900.0],
        Theme::Dark,
        1.0,
    );
}

#[test]
fn picture_of_a_comparison_in_daylight_at_two_pixels_a_point() {
    picture(
        "compare-light-2x",
        support::compared(52),
        [1180.0, 720.0],
        Theme::Light,
        2.0,
    );
}

#[test]
fn picture_of_a_take_beside_the_film() {
    let mut s = support::running(52);
    s.back_to(24 + 30);
    s.phase = Phase::Stopped;
    s.next_beside();
    s.play.seek(24 + 30, s.len());
    picture("take-dark", s, [1180.0, 720.0], Theme::Dark, 1.0);
}

#[test]
fn picture_of_the_loading() {
    let mut s = support::loading();
    s.hear(Message::Given(9, Default::default()));
    picture("loading-dark", s, [1180.0, 720.0], Theme::Dark, 1.0);
}

#[test]
fn picture_of_the_weights_on_their_way_in_daylight_at_two_pixels_a_point() {
    let mut s = support::empty();
    s.start();
    s.effects.clear();
    s.hear(Message::Loading(LoadStage::Device, 1, 1));
    s.hear(Message::Loading(LoadStage::Weights, 112, 112));
    s.hear(Message::Loading(LoadStage::Upload, 6_396_313, 9_243_392));
    picture("loading-light-2x", s, [1024.0, 640.0], Theme::Light, 2.0);
}

#[test]
fn the_stages_of_loading_are_told_one_after_the_other() {
    let mut s = support::empty();
    s.start();
    assert_eq!(loading::line(&s), "Open the device");
    s.hear(Message::Loading(LoadStage::Device, 1, 1));
    assert_eq!(loading::line(&s), "Check the weights");
    s.hear(Message::Loading(LoadStage::Weights, 112, 112));
    s.hear(Message::Loading(LoadStage::Upload, 6_396_313, 9_243_392));
    assert_eq!(
        loading::line(&s),
        "Bring them onto the device 6.1 / 8.8 MiB"
    );
    let steps: Vec<_> = loading::rows(&s).iter().map(|r| r.step).collect();
    use loading::Step::{Done, Next, Now};
    assert_eq!(steps, [Done, Done, Now, Next, Next, Next]);
    // Kernels that are all there are not told of.
    let mut s = support::loading();
    s.hear(Message::Given(9, Default::default()));
    assert_eq!(loading::line(&s), "Given frames into the cache 9 / 24");
    assert_eq!(loading::rows(&s)[3].figure, "kept");
    s.hear(Message::Given(24, Default::default()));
    assert_eq!(loading::line(&s), "First frame");
    s.hear(Message::Pass(1, 2));
    let h = plain(s);
    let name = "Loading: First frame pass 1 / 2";
    assert!(h.query_by_label(name).is_some());
}

#[test]
fn a_film_from_text_has_no_stage_of_given_frames() {
    let mut s = support::text_empty();
    s.start();
    for stage in [LoadStage::Device, LoadStage::Weights, LoadStage::Upload] {
        s.hear(Message::Loading(stage, 1, 1));
    }
    s.hear(Message::Loading(LoadStage::Kernels, 2, 3));
    assert_eq!(loading::line(&s), "Compile kernels 2 / 3");
    s.hear(Message::Loading(LoadStage::Kernels, 3, 3));
    assert_eq!(loading::line(&s), "First frame");
    assert_eq!(loading::rows(&s).len(), 5);
}

/// The first screen on a card of so much memory, as the worker answers it.
fn on_a_card(mib: u64) -> (State, longtake::gpu::Caps) {
    let card = fit::card(mib << 20);
    let mut s = support::empty();
    s.device.title = card.name.clone();
    s.device.free = card.memory_bytes;
    s.hear(Message::Planned(Box::new(worker::plan(&card, &s.job))));
    (s, card)
}

/// A card that holds the default film at 2 bit and not at 4, in MiB.
fn small_card(s: &State) -> u64 {
    let peak = |width| {
        let mut job = s.job.clone();
        job.widths = Widths::both(width);
        match worker::plan(&fit::card(u64::MAX), &job).expect("fits") {
            Event::Plan { planned, .. } => planned.peak_device_bytes,
            other => panic!("{other:?}"),
        }
    };
    let (two, four) = (peak(Width::Two), peak(Width::Four));
    let between = two.div_ceil(1 << 20);
    assert!(between << 20 < four, "{two} and {four} bytes");
    between
}

#[test]
fn picture_of_a_film_that_does_not_fit() {
    let mib = small_card(&support::empty());
    let (s, _) = on_a_card(mib);
    picture("refused-dark", s, [1180.0, 720.0], Theme::Dark, 1.0);
}

#[test]
fn what_would_fit_is_taken_by_key_and_then_walked() {
    let (s, card) = on_a_card(small_card(&support::empty()));
    let mut h = plain(s);
    // On the card and in the pane.
    assert_eq!(h.get_all_by_label_contains("MiB; a card of").count(), 2);
    // The first button has the focus: what keeps all of the window and all bits.
    press(&mut h, Key::Enter);
    let sent = commands(&mut h);
    let [Command::Plan(job)] = &sent[..] else {
        panic!("nothing is begun, the film is planned anew: {sent:?}")
    };
    assert!(
        0 < job.offload && job.widths.k.bits() == 4 && job.window == 72,
        "{job:?}"
    );
    let plan = worker::plan(&card, job);
    assert!(plan.is_ok(), "{plan:?}");
    h.state_mut().hear(Message::Planned(Box::new(plan)));
    h.run_steps(2);
    press(&mut h, Key::Enter);
    let sent = commands(&mut h);
    assert!(
        matches!(&sent[..], [Command::Start(to)] if to.widths == h.state().widths),
        "{sent:?}"
    );
}

#[test]
fn every_offer_fits_and_a_card_too_small_for_any_says_so() {
    let (mut s, card) = on_a_card(14);
    let Some(Err(fault)) = s.plan.clone() else {
        panic!("{:?}", s.plan)
    };
    assert!(!fault.offers.is_empty(), "{fault:?}");
    assert_eq!(fault.code, 3);
    for offer in &fault.offers {
        let plan = worker::plan(&card, &offer.job);
        assert!(plan.is_ok(), "{offer:?}: {plan:?}");
    }
    // Each is a button, reached by Tab.
    let names: Vec<_> = fault
        .offers
        .iter()
        .map(|o| format!("Take {}", o.name))
        .collect();
    s.show.settings = false;
    let mut h = plain(s);
    for name in &names {
        for _ in 0..80 {
            if h.get_by_label(name).is_focused() {
                break;
            }
            press(&mut h, Key::Tab);
        }
        assert!(h.get_by_label(name).is_focused(), "{name}");
    }
    press(&mut h, Key::Space);
    let last = fault.offers.last().unwrap();
    assert_eq!(h.state().job, *last.job);

    let (s, _) = on_a_card(4);
    let mut h = plain(s);
    assert!(
        h.state()
            .plan
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap_err()
            .offers
            .is_empty()
    );
    press(&mut h, Key::Enter);
    assert!(h.state().show.settings);
    assert!(
        commands(&mut h)
            .iter()
            .all(|c| !matches!(c, Command::Start(_)))
    );
}

#[test]
fn a_click_on_a_control_leaves_the_keys_to_the_film() {
    let mut h = plain(support::running(20));
    let names = [
        "Cache bits, 4 bit",
        "Loop: off",
        "1.0 ×",
        "Settings",
        "Seed",
        "World",
    ];
    for name in names {
        // A number stands behind a word of the same name.
        let control = h.get_all_by_label(name).last();
        control.unwrap().click();
        h.run_steps(3);
        if name == "Seed" {
            // What is typed into a number stays there.
            press(&mut h, Key::Num2);
            assert_eq!(h.state().widths, Widths::both(Width::Four));
            press(&mut h, Key::Enter);
            continue;
        }
        if name == "World" {
            // A click beside it ends that.
            let beside = egui::pos2(700.0, 20.0);
            for pressed in [true, false] {
                h.event(egui::Event::PointerMoved(beside));
                h.event(egui::Event::PointerButton {
                    pos: beside,
                    button: egui::PointerButton::Primary,
                    pressed,
                    modifiers: Modifiers::NONE,
                });
                h.run_steps(2);
            }
        }
        let moving = h.state().play.moving;
        press(&mut h, Key::Space);
        assert_ne!(h.state().play.moving, moving, "Space after {name}");
        press(&mut h, Key::End);
        press(&mut h, Key::ArrowLeft);
        let last = h.state().len() - 1;
        assert_eq!(h.state().play.at, last - 8, "Left after {name}");
    }
    press(&mut h, Key::Num3);
    assert_eq!(h.state().widths, Widths::both(Width::Three));
}

#[test]
fn who_tabs_to_a_control_has_its_keys_there() {
    let mut h = plain(support::running(20));
    for _ in 0..80 {
        press(&mut h, Key::Tab);
        if h.get_by_label("Loop: off").is_focused() {
            break;
        }
    }
    let (moving, at) = (h.state().play.moving, h.state().play.at);
    press(&mut h, Key::Space);
    assert!(h.query_by_label("Loop: all").is_some(), "Space presses it");
    assert_eq!((h.state().play.moving, h.state().play.at), (moving, at));
    // Letters are the film's all the same.
    press(&mut h, Key::I);
    assert!(h.state().show.statistics);
}

#[test]
fn space_on_the_error_card_plays_what_is_safe() {
    let mut s = support::running(20);
    s.hear(Message::Fault(Box::new(fault(20))));
    let mut h = plain(s);
    let moving = h.state().play.moving;
    press(&mut h, Key::Space);
    assert_ne!(h.state().play.moving, moving);
    assert!(commands(&mut h).is_empty(), "nothing is begun again");
}

#[test]
fn picture_of_an_error() {
    let mut s = support::running(52);
    s.hear(Message::Fault(Box::new(fault(52))));
    picture("error-light", s, [1180.0, 720.0], Theme::Light, 1.0);
}

fn fault(made: usize) -> Fault {
    Fault::of(&Error::BadFrames {
        frame: made,
        chunk: made as u32,
        device: "A card (vulkan)".into(),
    })
    .at(made, Device::twin().caps())
}

fn plain(state: State) -> Harness<'static, State> {
    harness(state, [1440.0, 900.0], Theme::Dark, 1.0, false)
}

/// Commands that left since the last look.
fn commands(h: &mut Harness<'_, State>) -> Vec<Command> {
    let effects = std::mem::take(&mut h.state_mut().effects);
    let of = |e| match e {
        Effect::Command(c) => Some(c),
        _ => None,
    };
    effects.into_iter().filter_map(of).collect()
}

fn press(h: &mut Harness<'_, State>, key: Key) {
    h.key_press(key);
    h.run_steps(2);
}

#[test]
fn one_key_walks_from_the_first_screen() {
    let mut h = plain(support::empty());
    press(&mut h, Key::Enter);
    let sent = commands(&mut h);
    assert!(
        matches!(&sent[..], [Command::Start(job)] if job.given == 24),
        "{sent:?}"
    );
    assert_eq!(h.state().phase, Phase::Loading(0, 24));
}

#[test]
fn steering_takes_the_letters_and_escape_gives_them_back() {
    let mut h = plain(support::running(20));
    press(&mut h, Key::Enter);
    assert!(h.state().steering);
    h.key_down(Key::S);
    h.key_down(Key::ArrowLeft);
    h.run_steps(1);
    assert_eq!(h.state().reins.held.load(Ordering::Relaxed), 0b01_0010);
    assert!(
        h.state().effects.is_empty(),
        "S saves nothing while steering"
    );
    h.key_up(Key::S);
    h.run_steps(1);
    assert_eq!(h.state().reins.held.load(Ordering::Relaxed), 0b01_0000);
    press(&mut h, Key::Escape);
    assert!(!h.state().steering);
    assert_eq!(h.state().reins.held.load(Ordering::Relaxed), 0);
    press(&mut h, Key::S);
    assert!(
        matches!(&h.state().effects[..], [Effect::Save { name, .. }] if name.ends_with(".png"))
    );
}

#[test]
fn digits_turn_the_bits() {
    let mut h = plain(support::running(20));
    press(&mut h, Key::Num2);
    let sent = commands(&mut h);
    let two = Widths::both(Width::Two);
    assert!(
        matches!(&sent[..], [Command::Bits(w)] if *w == two),
        "{sent:?}"
    );
    press(&mut h, Key::Num2);
    assert!(commands(&mut h).is_empty(), "the same width is no change");
}

#[test]
fn the_slider_moves_by_click_and_by_arrow() {
    let mut h = plain(support::running(20));
    h.get_by_label("Cache bits, 4 bit").focus();
    h.run_steps(2);
    press(&mut h, Key::ArrowRight);
    let sent = commands(&mut h);
    let three = Widths::both(Width::Three);
    assert!(
        matches!(&sent[..], [Command::Bits(w)] if *w == three),
        "{sent:?}"
    );
    // A screen reader sets it.
    use egui::accesskit::{Action, ActionData, ActionRequest};
    let slider = h.get_by_label("Cache bits, 3 bit").accesskit_node();
    let (target_node, target_tree) = slider.locate();
    h.event(egui::Event::AccessKitActionRequest(ActionRequest {
        action: Action::SetValue,
        target_tree,
        target_node,
        data: Some(ActionData::NumericValue(8.0)),
    }));
    h.run_steps(2);
    let sent = commands(&mut h);
    let eight = Widths::both(Width::Eight);
    assert!(
        matches!(&sent[..], [Command::Bits(w)] if *w == eight),
        "{sent:?}"
    );
}

#[test]
fn the_view_pauses_steps_and_goes_live_while_making_goes_on() {
    let mut h = plain(support::running(20));
    let last = h.state().len() - 1;
    assert_eq!((h.state().play.at, h.state().pill()), (last, "live"));
    press(&mut h, Key::Space);
    assert_eq!(h.state().pill(), "paused");
    press(&mut h, Key::Comma);
    press(&mut h, Key::Comma);
    press(&mut h, Key::Period);
    assert_eq!(h.state().play.at, last - 1);
    press(&mut h, Key::ArrowLeft);
    assert_eq!(h.state().play.at, last - 9, "one second");
    press(&mut h, Key::Home);
    assert_eq!(h.state().play.at, 0);
    press(&mut h, Key::End);
    assert_eq!((h.state().play.at, h.state().pill()), (last, "live"));
    assert!(
        commands(&mut h).is_empty(),
        "the engine heard nothing of it"
    );
    press(&mut h, Key::P);
    assert!(matches!(&commands(&mut h)[..], [Command::Stop]));
}

#[test]
fn undo_goes_back_a_frame_and_keeps_the_take() {
    let mut h = plain(support::running(20));
    h.key_press_modifiers(Modifiers::CTRL, Key::Z);
    h.run_steps(2);
    assert!(matches!(&commands(&mut h)[..], [Command::BackTo(19, lead)] if lead.is_empty()));
    assert_eq!(h.state().film.made(), 19);
    assert_eq!(h.state().takes[0].shots.len(), 1);
    assert_eq!(h.state().phase, Phase::GoingBack(0, 19));
}

#[test]
fn redo_takes_the_left_way_again_and_b_plays_it_beside() {
    let mut h = plain(support::running(20));
    h.state_mut().back_to(24 + 9);
    let _ = commands(&mut h);
    h.state_mut().phase = Phase::Making;
    press(&mut h, Key::B);
    assert_eq!(h.state().beside, Some(0));
    assert!(h.query_by_label("Take it again").is_some());
    let take: Vec<_> = h.state().takes[0]
        .shots
        .iter()
        .filter_map(|s| s.step)
        .collect();
    h.key_press_modifiers(Modifiers::CTRL | Modifiers::SHIFT, Key::Z);
    h.run_steps(2);
    let sent = commands(&mut h);
    let [Command::BackTo(10, lead)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(lead.iter().map(|(s, _)| *s).collect::<Vec<_>>(), take);
    assert!(h.state().takes.is_empty() && h.state().beside.is_none());
}

#[test]
fn comparing_is_asked_for_swapped_and_saved() {
    let mut h = plain(support::running(20));
    press(&mut h, Key::C);
    assert!(matches!(&commands(&mut h)[..], [Command::Compare(true)]));
    press(&mut h, Key::C);
    assert!(matches!(&commands(&mut h)[..], [Command::Compare(false)]));
    let mut h = plain(support::compared(30));
    press(&mut h, Key::X);
    assert!(h.state().versus.as_ref().is_some_and(|v| v.swapped));
    h.get_by_label("Save report").click();
    h.run_steps(2);
    let effects = std::mem::take(&mut h.state_mut().effects);
    let [Effect::SaveReport(report)] = &effects[..] else {
        panic!("{effects:?}")
    };
    let folder = std::env::temp_dir().join(format!("longtake-report-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let page = longtake_viewer::save::report(&folder, "a.html", report).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("data:image/png") && html.contains("Both runs start"));
    let json = std::fs::read_to_string(folder.join("a.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["runs"][1]["frames"].as_array().map(Vec::len), Some(30));
    assert!(
        json["runs"][1]["frames"][0]["psnr"].is_null(),
        "equal at first"
    );
    assert!(json["runs"][1]["frames"][29]["psnr"].as_f64().is_some());
    std::fs::remove_dir_all(&folder).ok();
}

#[test]
fn at_the_live_edge_the_newest_frame_that_both_have_is_compared() {
    let mut s = support::compared(20);
    s.versus.as_mut().unwrap().cut(19);
    // The picture that is shown as the difference tells which two were looked at.
    let looked_at = |s: State| {
        let mut h = plain(s);
        h.run_steps(1);
        let looked = h
            .state()
            .difference
            .as_ref()
            .map(|(_, [own, _])| own.clone());
        let at = |own| {
            let shots = &h.state().film.shots;
            shots
                .iter()
                .position(|s| std::sync::Arc::ptr_eq(&s.frame, &own))
        };
        looked.and_then(at)
    };
    assert_eq!(looked_at(s), Some(24 + 18));
    // Who looks at a frame that is not there yet, is told so.
    let mut s = support::compared(20);
    s.versus.as_mut().unwrap().cut(10);
    assert_eq!(looked_at(s), None);
}

#[test]
fn the_wheel_looks_closer_where_the_pointer_is_and_two_clicks_show_all() {
    let mut h = plain(support::running(20));
    let at = egui::pos2(300.0, 300.0);
    h.event(egui::Event::PointerMoved(at));
    h.run_steps(1);
    for _ in 0..6 {
        h.event(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            delta: egui::vec2(0.0, 120.0),
            phase: egui::TouchPhase::Move,
            source: egui::MouseWheelSource::Unknown,
            modifiers: Modifiers::NONE,
        });
        h.run_steps(4);
    }
    let zoom = h.state().zoom;
    assert!(zoom.times > 2.0, "{zoom:?}");
    assert!(zoom.middle.x < 0.5 && zoom.middle.y < 0.5, "{zoom:?}");
}

#[test]
fn keys_look_closer_and_go_on_from_the_shown_frame() {
    let mut h = plain(support::running(20));
    press(&mut h, Key::Plus);
    press(&mut h, Key::Plus);
    assert!(h.state().zoom.times > 1.5, "{:?}", h.state().zoom);
    (0..3).for_each(|_| press(&mut h, Key::Minus));
    assert_eq!(h.state().zoom, longtake_viewer::state::Zoom::default());
    // The timeline, which Tab reaches.
    let label = "Time 0:02.4, frame 43, exact";
    h.get_by_label(label).focus();
    h.run_steps(2);
    let all = h.state().reach;
    press(&mut h, Key::ArrowUp);
    let (first, frames) = h.state().reach.expect("a part of it is shown");
    assert!(all.is_none() && first <= 43.0 && 43.0 < first + frames);
    press(&mut h, Key::ArrowDown);
    assert!(h.state().reach.is_none());
    h.state_mut().play.seek(24 + 7, 44);
    press(&mut h, Key::G);
    assert!(matches!(&commands(&mut h)[..], [Command::BackTo(8, lead)] if lead.is_empty()));
    assert_eq!(h.state().takes[0].shots.len(), 12);
    let mut h = plain(support::running(20));
    press(&mut h, Key::Home);
    press(&mut h, Key::G);
    assert!(commands(&mut h).is_empty() && h.state().note.warns);
}

#[test]
fn a_lost_device_is_told_and_the_film_goes_on() {
    let mut s = support::running(20);
    s.hear(Message::Lost(20));
    assert_eq!(s.phase, Phase::GoingBack(0, 20));
    assert!(s.note.warns && s.note.text.contains("20 frames are made again"));
    s.hear(Message::Again(20, 20));
    s.hear(Message::WentBack(20, Vec::new()));
    assert_eq!((s.phase.clone(), s.len()), (Phase::Making, 44));
}

#[test]
fn an_error_is_copied_and_enter_takes_the_way_on() {
    let mut s = support::running(20);
    s.hear(Message::Fault(Box::new(fault(20))));
    let mut h = plain(s);
    h.event(egui::Event::Copy);
    h.run_steps(1);
    let copied = h.output().platform_output.commands.iter().any(|c| {
        matches!(c, egui::OutputCommand::CopyText(text) if text.contains("chunk 20 came out as NaN"))
    });
    assert!(copied);
    press(&mut h, Key::Enter);
    assert!(matches!(&commands(&mut h)[..], [Command::Start(_)]));
}

/// Every state of the window that has controls of its own, with what it is called.
fn states() -> Vec<(&'static str, State)> {
    let with = |mut s: State, change: fn(&mut State)| {
        change(&mut s);
        s
    };
    vec![
        ("empty", support::empty()),
        ("loading", support::loading()),
        ("running", support::running(20)),
        (
            "settings",
            with(support::running(20), |s| {
                (s.show.settings, s.show.apart, s.show.layers) = (true, true, true);
            }),
        ),
        ("compare", support::compared(20)),
        (
            "take",
            with(support::running(20), |s| {
                s.back_to(24 + 9);
                s.phase = Phase::Stopped;
                s.next_beside();
            }),
        ),
        (
            "error",
            with(support::running(20), |s| {
                s.hear(Message::Fault(Box::new(fault(20))));
            }),
        ),
        ("refused", on_a_card(small_card(&support::empty())).0),
        ("text", support::text_running(3)),
        ("keys", with(support::running(20), |s| s.show.keys = true)),
    ]
}

#[test]
fn what_can_be_reached_has_a_name_and_tab_reaches_it() {
    use egui::accesskit::{Action, Role};
    for (name, state) in states() {
        let mut h = plain(state);
        // What takes the keyboard: a role, a name, and which of those that share both.
        let all = |h: &Harness<'_, State>| -> Vec<(egui::accesskit::NodeId, String)> {
            let nodes = h.root().children_recursive();
            nodes
                .filter_map(|n| {
                    let n = n.accesskit_node();
                    // What is shown in a scrolled area is a node of its own, and no control.
                    let takes = n.data().supports_action(Action::Focus)
                        && !n.is_disabled()
                        && !matches!(n.role(), Role::ScrollView | Role::Window);
                    let word = n.label().or_else(|| n.value()).unwrap_or_default();
                    takes.then(|| (n.locate().0, format!("{:?} {word}", n.role())))
                })
                .collect()
        };
        let controls = all(&h);
        assert!(controls.len() > 5, "{name}: {controls:?}");
        for (_, words) in &controls {
            assert!(words.split_whitespace().nth(1).is_some(), "{name}: {words}");
        }
        let mut reached = std::collections::BTreeSet::new();
        for _ in 0..2 * controls.len() {
            press(&mut h, Key::Tab);
            let focused = h.root().children_recursive().find(|n| n.is_focused());
            reached.extend(focused.map(|n| n.accesskit_node().locate().0.0));
        }
        let missed: Vec<_> = controls
            .iter()
            .filter(|(id, _)| !reached.contains(&id.0))
            .collect();
        assert!(missed.is_empty(), "{name}: Tab does not reach {missed:?}");
    }
}

#[test]
fn the_foot_says_what_enter_does() {
    let says = |state: State, size: [f32; 2], does: &str| {
        let h = harness(state, size, Theme::Dark, 1.0, false);
        for other in [
            "walk",
            "steer",
            "start again",
            "go on",
            "change the settings",
        ] {
            let n = h.query_all_by_label(other).count();
            assert_eq!(n, usize::from(other == does), "{other}, not {does}");
        }
    };
    for size in [[1440.0, 900.0], [1024.0, 640.0]] {
        says(support::empty(), size, "walk");
        says(support::running(20), size, "steer");
        let failed = |fault: Fault| {
            let mut s = support::running(20);
            s.hear(Message::Fault(Box::new(fault)));
            s
        };
        says(failed(fault(20)), size, "start again");
        says(failed(Fault::unwritten(Vec::new(), 20)), size, "go on");
        let no_device = Fault::of(&Error::Gpu(longtake::gpu::Error::NoDevice));
        says(failed(no_device), size, "change the settings");
    }
}

#[test]
fn a_film_whose_file_cannot_be_written_is_kept_and_goes_on() {
    let mut s = support::running(20);
    s.unwritten(vec![
        "writing failed (No space left on device): \"film.mp4\"".into(),
    ]);
    // The chunk under way comes, and the end that it may have been is not taken for settled.
    s.hear(Message::Finished);
    let mut h = plain(s);
    assert!(matches!(&commands(&mut h)[..], [Command::Stop]));
    let Phase::Failed(fault) = &h.state().phase else {
        panic!("{:?}", h.state().phase)
    };
    assert!(fault.headline.contains("cannot be written") && fault.safe.starts_with("20 frames"));
    h.key_press_modifiers(Modifiers::CTRL, Key::S);
    h.run_steps(2);
    let effects = std::mem::take(&mut h.state_mut().effects);
    assert!(
        matches!(&effects[..], [Effect::SaveFilm { frames, .. }] if frames.len() == 20),
        "{effects:?}"
    );
    assert!(h.query_by_label("Go on without the file").is_some());
    press(&mut h, Key::Enter);
    assert!(matches!(&commands(&mut h)[..], [Command::Continue]));
    assert_eq!(
        (h.state().phase.clone(), h.state().len()),
        (Phase::Making, 44)
    );
}

#[test]
fn a_film_that_failed_stays_so_when_its_device_is_lost() {
    let mut s = support::running(20);
    s.hear(Message::Fault(Box::new(fault(20))));
    s.hear(Message::Lost(20));
    s.hear(Message::WentBack(20, Vec::new()));
    assert!(matches!(s.phase, Phase::Failed(_)), "{:?}", s.phase);
}

#[test]
fn undo_takes_back_a_whole_chunk() {
    let mut s = support::running(20);
    s.film.chunk_frames = 3;
    s.undo();
    assert!(matches!(
        &s.effects[..],
        [Effect::Command(Command::BackTo(18, _))]
    ));
    assert_eq!((s.film.made(), s.takes[0].shots.len()), (18, 2));
    s.phase = Phase::Making;
    // Going on from a frame in the middle of a chunk makes that chunk again.
    s.effects.clear();
    s.back_to(24 + 7);
    assert!(matches!(
        &s.effects[..],
        [Effect::Command(Command::BackTo(6, _))]
    ));
    assert_eq!(s.film.made(), 6);
}

#[test]
fn a_thousand_frames_fit_the_timeline() {
    let mut s = support::running(1);
    let shot = s.film.shots.last().cloned().unwrap();
    let slot = *s.film.slots.last().unwrap();
    for _ in 0..10_000 {
        s.film.shots.push(shot.clone());
        s.film.slots.push(slot);
    }
    let mut h = plain(s);
    press(&mut h, Key::End);
    assert_eq!(h.state().play.at, 10_024);
}
