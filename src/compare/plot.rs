//! Curves as inline SVG. Colours are classes that the page's style sheet fills, for light and for dark.

use std::fmt::Write as _;

/// Size of a chart in its own units; the page scales it.
pub(super) const SIZE: (f64, f64) = (860.0, 300.0);
/// Where the plot lies in it: left, top, right, bottom.
const AREA: (f64, f64, f64, f64) = (58.0, 14.0, 846.0, 256.0);
/// Height above the largest tick that values without an end are drawn in.
const EXACT: f64 = 26.0;
/// Curves with more points than this carry no dots.
const MOST_DOTS: usize = 130;
/// Ticks that an axis aims at.
const TICKS: f64 = 6.0;
/// Colours that the style sheet has.
const COLOURS: usize = 8;

/// How a series looks: its class, and whether it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Number of the colour; none: the colour of text.
    pub(super) colour: Option<usize>,
    pub(super) dashed: bool,
}

impl Look {
    /// The class that the style sheet fills.
    pub(super) fn class(self) -> String {
        let colour = match self.colour {
            Some(i) => format!("c{}", i % COLOURS),
            None => "ink".to_owned(),
        };
        // From the ninth colour on they come again, broken.
        let dashed = self.dashed || self.colour.is_some_and(|i| COLOURS <= i);
        if dashed { colour + " dash" } else { colour }
    }
}

/// One curve: a value for each whole number from 0 on, infinite ones drawn above the scale.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) look: Look,
    pub(super) values: Vec<f64>,
}

/// What is written around curves.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    /// For readers that do not see it.
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Name of a point of x, and unit of a value, as a pointer reads them.
    pub(super) point: (&'a str, &'a str),
    /// The scale begins at zero.
    pub(super) from_zero: bool,
    /// Upright lines.
    pub(super) marks: &'a [usize],
}

/// Text as it may stand in HTML, also within quotes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c => safe.push(c),
        }
    }
    safe
}

/// Round numbers from at or below `low` to at or above `high`, and how many digits they need behind the point.
fn ticks(low: f64, high: f64) -> (Vec<f64>, usize) {
    let span = (high - low).max(high.abs() * 1e-6).max(1e-9);
    let rough = span / TICKS;
    let decade = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * decade)
        .find(|step| rough <= *step * 1.000_001)
        .unwrap_or(10.0 * decade);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    // A scale has some ten ticks, whatever rounding does.
    let n = (last - first).clamp(1.0, 20.0) as usize;
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    ((0..=n).map(|i| (first + i as f64) * step).collect(), digits)
}

/// Curves over whole numbers.
pub(super) fn lines(chart: &Chart<'_>, series: &[Series]) -> String {
    let finite = series
        .iter()
        .flat_map(|s| &s.values)
        .copied()
        .filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
        (l.min(v), h.max(v))
    });
    let has_exact = series
        .iter()
        .flat_map(|s| &s.values)
        .any(|v| *v == f64::INFINITY);
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let (scale, digits) = ticks(if chart.from_zero { 0.0 } else { low }, high);
    let points = series.iter().map(|s| s.values.len()).max().unwrap_or(0);
    let (left, top, right, bottom) = AREA;
    let ceiling = if has_exact { top + EXACT } else { top };
    let (least, most) = (scale[0], scale[scale.len() - 1]);
    let x = |i: f64| left + (i + 0.5) / points.max(1) as f64 * (right - left);
    let y = |v: f64| match v.is_finite() {
        true => bottom - (v - least) / (most - least) * (bottom - ceiling),
        false => top + EXACT / 4.0,
    };
    let mut svg = open(chart.title, SIZE.1);
    for &tick in &scale {
        let at = y(tick);
        let _ = write!(
            svg,
            "<line class=grid x1={left} x2={right} y1={at:.1} y2={at:.1} />\
             <text class=tick text-anchor=end x={:.1} y={:.1}>{tick:.digits$}</text>",
            left - 8.0,
            at + 4.0
        );
    }
    if has_exact {
        let at = y(f64::INFINITY);
        let _ = write!(
            svg,
            "<line class=grid x1={left} x2={right} y1={at:.1} y2={at:.1} />\
             <text class=tick text-anchor=end x={:.1} y={:.1}>exact</text>",
            left - 8.0,
            at + 4.0
        );
    }
    for &mark in chart
        .marks
        .iter()
        .filter(|&&mark| 0 < mark && mark < points)
    {
        let at = x(mark as f64 - 0.5);
        let _ = write!(
            svg,
            "<line class=mark x1={at:.1} x2={at:.1} y1={top} y2={bottom} />"
        );
    }
    let _ = write!(
        svg,
        "<line class=axis x1={left} x2={right} y1={bottom} y2={bottom} />"
    );
    for tick in x_ticks(points) {
        let (at, below) = (x(tick as f64), bottom + 18.0);
        let _ = write!(
            svg,
            "<text class=tick text-anchor=middle x={at:.1} y={below}>{tick}</text>"
        );
    }
    let _ = write!(
        svg,
        "<text class=label text-anchor=middle x={:.1} y={:.1}>{}</text>\
         <text class=label text-anchor=middle transform='translate(14 {:.1}) rotate(-90)'>{}</text>",
        (left + right) / 2.0,
        SIZE.1 - 8.0,
        escape(chart.x),
        (top + bottom) / 2.0,
        escape(chart.y)
    );
    for s in series {
        curve(&mut svg, chart, s, (&x, &y));
    }
    svg + "</svg>"
}

type Place<'a> = (&'a dyn Fn(f64) -> f64, &'a dyn Fn(f64) -> f64);

fn curve(svg: &mut String, chart: &Chart<'_>, series: &Series, (x, y): Place<'_>) {
    let class = series.look.class();
    let at = |i: usize, v: f64| format!("{:.1},{:.1}", x(i as f64), y(v));
    let points: Vec<String> = series
        .values
        .iter()
        .enumerate()
        .map(|(i, &v)| at(i, v))
        .collect();
    let _ = write!(
        svg,
        "<g class='{class}'><polyline points='{}' />",
        points.join(" ")
    );
    if series.values.len() <= MOST_DOTS {
        let (point, unit) = chart.point;
        for (i, &v) in series.values.iter().enumerate() {
            let value = match v.is_finite() {
                true => format!("{v:.1} {unit}"),
                false => "exact".to_owned(),
            };
            let _ = write!(
                svg,
                "<circle cx={:.1} cy={:.1} r=2.4><title>{}, {point} {i}: {value}</title></circle>",
                x(i as f64),
                y(v),
                escape(&series.name)
            );
        }
    }
    *svg += "</g>";
}

/// Whole numbers along x.
fn x_ticks(points: usize) -> Vec<usize> {
    let step = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
        .into_iter()
        .find(|step| points / step <= 16)
        .unwrap_or(points.div_ceil(16).max(1));
    (0..points).step_by(step).collect()
}

pub(super) fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox='0 0 {} {height}' role=img aria-label='{title}'><title>{title}</title>",
        SIZE.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look {
        colour: Some(1),
        dashed: false,
    };

    #[test]
    fn ticks_are_round_and_enclose() {
        assert_eq!(
            ticks(0.0, 6.0),
            (vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0)
        );
        let (scale, digits) = ticks(17.3, 41.9);
        assert_eq!((scale[0], *scale.last().unwrap(), digits), (15.0, 45.0, 0));
        let (scale, digits) = ticks(0.0, 0.42);
        assert!(0.42 <= *scale.last().unwrap() && digits == 1, "{scale:?}");
        for (low, high) in [(3.0, 3.0), (0.0, 0.0), (1e9, 1e9), (-2.0, -1.0)] {
            let (scale, _) = ticks(low, high);
            assert!(2 <= scale.len() && scale.len() <= 21, "{scale:?}");
            assert!(scale.windows(2).all(|pair| pair[0] < pair[1]), "{scale:?}");
        }
    }

    #[test]
    fn curves_lie_in_the_area_and_exact_values_above() {
        let chart = Chart {
            title: "a <b> chart",
            x: "frame",
            y: "dB",
            point: ("frame", "dB"),
            from_zero: false,
            marks: &[2],
        };
        let series = Series {
            name: "a&b".to_owned(),
            look: LOOK,
            values: vec![f64::INFINITY, 40.0, 20.0],
        };
        let svg = lines(&chart, &[series]);
        assert!(svg.contains("a &lt;b&gt; chart") && svg.contains("a&amp;b, frame 1: 40.0 dB"));
        assert!(svg.contains(">exact</text>") && svg.contains("class=mark"));
        let points = svg
            .split("points='")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        let ys: Vec<f64> = points
            .split(' ')
            .map(|p| p.split_once(',').unwrap().1.parse().unwrap())
            .collect();
        assert!(ys[0] < ys[1] && ys[1] < ys[2], "{ys:?}");
        assert!(ys.iter().all(|y| (AREA.1..=AREA.3).contains(y)), "{ys:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn charts_of_nothing_are_sound() {
        let chart = Chart {
            title: "",
            x: "",
            y: "",
            point: ("", ""),
            from_zero: true,
            marks: &[],
        };
        let exact = Series {
            name: String::new(),
            look: LOOK,
            values: vec![f64::INFINITY],
        };
        for svg in [lines(&chart, &[]), lines(&chart, &[exact])] {
            assert!(!svg.contains("NaN") && svg.ends_with("</svg>"), "{svg}");
        }
    }

    #[test]
    fn colours_come_again_broken() {
        let class = |colour, dashed| Look { colour, dashed }.class();
        assert_eq!(class(None, false), "ink");
        assert_eq!(class(Some(3), true), "c3 dash");
        assert_eq!(class(Some(9), false), "c1 dash");
    }
}
