//! The drift meter as the memory pane draws it. What is measured, and what counts as outside, the engine says with every stretch.

use longtake::rollout::{Drift, Look};

/// One value of the film's stretches.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// What it is.
    pub name: &'static str,
    /// The beginning, then every stretch.
    pub values: Vec<f64>,
    /// The range of the beginning.
    pub range: (f64, f64),
    /// The newest stretch against the beginning, as a share.
    pub change: f64,
    /// It lies outside.
    pub outside: bool,
}

/// Colour, contrast and sharpness; empty before a stretch was compared. Of the three colours that which is nearest to leaving.
pub fn trends(drifts: &[Drift]) -> Vec<Trend> {
    let Some(last) = drifts.last() else {
        return Vec::new();
    };
    let trend = |name, key: &str, of: &dyn Fn(&Look) -> f64| {
        let start = of(&last.start);
        let stretches = drifts.iter().map(|d| of(&d.look));
        Trend {
            name,
            values: std::iter::once(start).chain(stretches).collect(),
            range: (of(&last.low), of(&last.high)),
            change: of(&last.look) / start.max(1e-3) - 1.0,
            outside: last.left.contains(&key),
        }
    };
    // Parts of the way to the end of the range that the value went.
    let way = |c: &usize| {
        let of = |look: &Look| look.color[*c];
        let (now, start) = (of(&last.look), of(&last.start));
        let end = if now < start { &last.low } else { &last.high };
        (now - start).abs() / (of(end) - start).abs().max(1e-3)
    };
    let far = (0..3).max_by(|a, b| way(a).total_cmp(&way(b))).unwrap_or(0);
    vec![
        trend(["Red", "Green", "Blue"][far], "color", &|l| l.color[far]),
        trend("Contrast", "contrast", &|l| l.contrast),
        trend("Sharpness", "sharpness", &|l| l.sharpness),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(color: [f64; 3], contrast: f64) -> Look {
        Look {
            color,
            contrast,
            sharpness: 300.0,
        }
    }

    #[test]
    fn the_meter_shows_what_the_engine_says() {
        assert!(trends(&[]).is_empty());
        let stretch = |now, left| Drift {
            first_frame: 32,
            frames: 32,
            look: now,
            start: look([100.0; 3], 40.0),
            low: look([60.0; 3], 20.0),
            high: look([140.0; 3], 60.0),
            left,
        };
        let drifts = [
            stretch(look([104.0; 3], 41.0), vec![]),
            stretch(look([104.0, 98.0, 50.0], 42.0), vec!["color"]),
        ];
        let all = trends(&drifts);
        let blue = &all[0];
        assert_eq!((blue.name, blue.outside), ("Blue", true));
        assert_eq!(blue.values, [100.0, 104.0, 50.0]);
        assert_eq!((blue.range, blue.change), ((60.0, 140.0), -0.5));
        assert_eq!((all[1].name, all[1].outside), ("Contrast", false));
        assert_eq!(all[2].change, 0.0);
    }
}
