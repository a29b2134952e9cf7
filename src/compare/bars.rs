//! Bars as inline SVG.

use std::fmt::Write as _;

use super::plot::{Look, SIZE, escape, open};

/// One bar of [`bars`].
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) look: Look,
    pub(super) value: f64,
    /// The value as people read it.
    pub(super) text: String,
}

/// Bars from zero, one a line.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let (line, thick) = (30.0, 18.0);
    let longest = bars
        .iter()
        .map(|bar| bar.name.chars().count())
        .max()
        .unwrap_or(0);
    let left = 16.0 + 7.6 * longest as f64;
    let room = SIZE.0 - left - 220.0;
    let most = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(title, 12.0 + line * bars.len() as f64);
    for (i, bar) in bars.iter().enumerate() {
        let top = 6.0 + line * i as f64;
        let long = (bar.value / most * room).max(1.0);
        let middle = top + thick / 2.0 + 4.5;
        let _ = write!(
            svg,
            "<text class=label text-anchor=end x={:.1} y={middle:.1}>{}</text>\
             <g class='{}'><rect x={left:.1} y={top:.1} width={long:.1} height={thick} rx=3 /></g>\
             <text class=tick x={:.1} y={middle:.1}>{}</text>",
            left - 8.0,
            escape(&bar.name),
            bar.look.class(),
            left + long + 8.0,
            escape(&bar.text)
        );
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look {
        colour: Some(1),
        dashed: false,
    };

    #[test]
    fn the_longest_bar_fills_its_room() {
        let bar = |value| Bar {
            name: "f16".to_owned(),
            look: LOOK,
            value,
            text: format!("{value}"),
        };
        let svg = bars("bytes", &[bar(8.0), bar(2.0)]);
        let widths: Vec<f64> = svg
            .split("width=")
            .skip(1)
            .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!((widths[0] / widths[1] - 4.0).abs() < 0.01, "{widths:?}");
    }
}
