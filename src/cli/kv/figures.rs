//! What was measured, as a table and as JSON.

use longtake::compare::aligned;
use longtake::dump::{Attended, Measured, TensorCost};
use longtake::ops::BiasFix;
use serde_json::{Value, json};

/// One setting on every layer.
#[derive(Debug)]
pub(super) struct SettingRow {
    pub(super) name: String,
    /// The correction of the softmax mass that belongs to it.
    pub(super) bias: BiasFix,
    /// Layers by number.
    pub(super) layers: Vec<(usize, Measured)>,
}

impl SettingRow {
    /// All layers together.
    pub(super) fn all(&self) -> Measured {
        let mut all = Measured::default();
        self.layers.iter().for_each(|(_, m)| all.join(m));
        all
    }

    /// Attention under the setting's own correction, or under none where its keys cannot have it.
    fn own<'m>(&self, m: &'m Measured) -> Option<&'m Attended> {
        m.under(self.bias).or_else(|| m.under(BiasFix::Off))
    }

    /// Values that cannot be trusted, in a sentence.
    pub(super) fn warning(&self) -> Option<String> {
        let all = self.all();
        let n = all.k.not_numbers + all.v.not_numbers;
        if n > 0 {
            return Some(format!(
                "{}: {n} decoded values are no numbers: its scales or centroids cannot hold values of this size",
                self.name
            ));
        }
        let (at, of) = (
            all.k.scales_at_limit + all.v.scales_at_limit,
            all.k.scales + all.v.scales,
        );
        (at > 0).then(|| {
            format!(
                "{}: {at} of {of} scales are at 448, the largest E4M3 has; larger values are cut there: int2 to int8 have \
                 a guard against that, others take it as {}:guard=on",
                self.name, self.name
            )
        })
    }
}

fn word(bias: BiasFix) -> &'static str {
    match bias {
        BiasFix::Off => "off",
        BiasFix::Step => "step",
        BiasFix::Energy => "energy",
    }
}

fn error(relative: f64) -> String {
    match relative {
        0.0 => "exact".to_owned(),
        e if e.is_finite() => format!("{e:.4}"),
        _ => "overflow".to_owned(),
    }
}

fn decibels(snr: f64) -> String {
    match snr.is_finite() {
        true => format!("{snr:.1}"),
        false => "-".to_owned(),
    }
}

fn signed(lse: f64) -> String {
    match lse.abs() {
        ..1000.0 => format!("{lse:+.3}"),
        1000.0.. if lse.is_finite() => format!("{lse:+.0e}"),
        _ => "-".to_owned(),
    }
}

/// One line a setting, over all layers.
pub(super) fn table(rows: &[SettingRow]) -> String {
    let head = [
        "setting",
        "bits/el",
        "smaller",
        "K error",
        "dB",
        "V error",
        "dB",
        "attention",
        "lse",
        "mass",
        "encode",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| line(&row.name, row, &row.all())));
    aligned(&lines)
}

/// One line a setting and layer.
pub(super) fn by_layer(rows: &[SettingRow]) -> String {
    let head = [
        "setting, layer",
        "bits/el",
        "smaller",
        "K error",
        "dB",
        "V error",
        "dB",
        "attention",
        "lse",
        "mass",
        "encode",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        for (layer, m) in &row.layers {
            lines.push(line(&format!("{} {layer}", row.name), row, m));
        }
    }
    aligned(&lines)
}

fn line(name: &str, row: &SettingRow, m: &Measured) -> Vec<String> {
    let bytes = m.k.bytes.total() + m.v.bytes.total();
    let half = m.k.half_bytes + m.v.half_bytes;
    let mut line = vec![
        name.to_owned(),
        format!("{:.3}", 16.0 * bytes as f64 / (half as f64).max(1.0)),
        format!("{:.2}x", half as f64 / (bytes as f64).max(1.0)),
    ];
    match row.own(m) {
        Some(a) => {
            for t in [&m.k, &m.v] {
                line.extend([error(t.sums.relative()), decibels(t.sums.snr_db())]);
            }
            line.extend([
                error(a.sums.relative()),
                signed(a.lse_mean()),
                word(a.bias).to_owned(),
            ]);
        }
        None => line.extend(["-"; 7].map(str::to_owned)),
    }
    line.push(
        m.encode_secs
            .map_or_else(|| "-".to_owned(), |secs| format!("{:.1} ms", 1e3 * secs)),
    );
    line
}

/// Bytes of every setting by what they hold.
pub(super) fn bytes(rows: &[SettingRow]) -> String {
    let head = [
        "bytes",
        "codes",
        "scales",
        "ids",
        "centroids",
        "tables",
        "padding",
        "16 bit",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let all = row.all();
        for (tensor, t) in [("K", &all.k), ("V", &all.v)] {
            let b = &t.bytes;
            let parts = [
                b.codes,
                b.scales,
                b.ids,
                b.centroids,
                b.heads,
                b.padding,
                t.half_bytes,
            ];
            let mut line = vec![format!("{} {tensor}", row.name)];
            line.extend(parts.map(|n| n.to_string()));
            lines.push(line);
        }
    }
    aligned(&lines)
}

/// Attention under every correction that a setting's keys can have.
pub(super) fn corrections(rows: &[SettingRow]) -> String {
    let head = ["mass correction", "attention", "lse mean", "lse rms", ""];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let all = row.all();
        let own = row.own(&all).map(|a| a.bias);
        for a in &all.attended {
            lines.push(vec![
                format!("{} {}", row.name, word(a.bias)),
                error(a.sums.relative()),
                signed(a.lse_mean()),
                format!("{:.3}", a.lse_rms()),
                if own == Some(a.bias) { "default" } else { "" }.to_owned(),
            ]);
        }
    }
    aligned(&lines)
}

/// A setting with all its layers. What is infinite or no number is `null`.
pub(super) fn json(row: &SettingRow) -> Value {
    let all = row.all();
    let mut value = measured(row, &all);
    value["setting"] = json!(row.name);
    let layer = |(layer, m): &(usize, Measured)| {
        let mut value = measured(row, m);
        value["layer"] = json!(layer);
        value
    };
    value["layers"] = row.layers.iter().map(layer).collect();
    value
}

fn measured(row: &SettingRow, m: &Measured) -> Value {
    let own = row.own(m);
    let attention = |a: &Attended| {
        json!({
            "mass_correction": word(a.bias),
            "default": own.is_some_and(|o| o.bias == a.bias),
            "relative_error": a.sums.relative(),
            "lse_mean_error": a.lse_mean(),
            "lse_rms_error": a.lse_rms(),
        })
    };
    let has_rows = own.is_some();
    let bytes = m.k.bytes.total() + m.v.bytes.total();
    let half = m.k.half_bytes + m.v.half_bytes;
    json!({
        "bits_per_element": 16.0 * bytes as f64 / (half as f64).max(1.0),
        "ratio": half as f64 / (bytes as f64).max(1.0),
        "k": tensor(&m.k, has_rows),
        "v": tensor(&m.v, has_rows),
        "attention": m.attended.iter().map(attention).collect::<Vec<_>>(),
        "encode_ms": m.encode_secs.map(|s| 1e3 * s),
    })
}

fn tensor(t: &TensorCost, has_rows: bool) -> Value {
    let only = |v: f64| Some(v).filter(|_| has_rows);
    json!({
        "bytes": t.bytes,
        "total_bytes": t.bytes.total(),
        "half_bytes": t.half_bytes,
        "bits_per_element": t.bits_per_element(),
        "ratio": t.ratio(),
        "relative_error": only(t.sums.relative()),
        "snr_db": only(t.sums.snr_db()),
        "scales": t.scales,
        "scales_at_limit": t.scales_at_limit,
        "not_numbers": t.not_numbers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use longtake::dump::Sums;

    fn row() -> SettingRow {
        let attended = |bias, error| Attended {
            bias,
            sums: Sums { error, truth: 4.0 },
            lse_error: -2.0,
            lse_square: 4.0,
            lses: 4,
        };
        let m = Measured {
            attended: vec![attended(BiasFix::Off, 1.0), attended(BiasFix::Energy, 0.25)],
            encode_secs: Some(0.5),
            ..Measured::default()
        };
        SettingRow {
            name: "int2".to_owned(),
            bias: BiasFix::Energy,
            layers: vec![(3, m.clone()), (4, m)],
        }
    }

    #[test]
    fn the_settings_own_correction_is_in_the_table() {
        let row = row();
        let text = table(std::slice::from_ref(&row));
        assert!(text.contains("0.2500") && text.contains("energy"), "{text}");
        assert!(
            text.contains("-0.500") && text.contains("1000.0 ms"),
            "{text}"
        );
        let json = json(&row);
        assert_eq!(json["layers"][1]["layer"], 4);
        assert_eq!(json["attention"][1]["default"], true);
        assert_eq!(json["attention"][0]["relative_error"], 0.5);
    }

    #[test]
    fn keys_without_a_table_fall_back_to_no_correction() {
        let mut row = row();
        row.layers
            .iter_mut()
            .for_each(|(_, m)| m.attended.truncate(1));
        let text = table(std::slice::from_ref(&row));
        assert!(text.contains("0.5000") && text.contains("off"), "{text}");
    }

    #[test]
    fn what_cannot_be_trusted_is_said() {
        let mut row = row();
        assert_eq!(row.warning(), None);
        row.layers[0].1.k.scales_at_limit = 2;
        assert!(row.warning().unwrap().contains("448"));
        row.layers[0].1.v.not_numbers = 1;
        assert!(row.warning().unwrap().contains("no numbers"));
    }
}
