//! `longtake devices`: what a film can be made on, and what is taken if nothing is said.

use longtake::gpu::{self, Caps, Device, Kind, Tier};
use serde_json::{Value, json};

use super::args::ListArgs;
use super::say;

/// The name that is asked for by these variables, in this order.
const WANTED: [&str; 2] = ["LONGTAKE_DEVICE", "WGPU_ADAPTER_NAME"];

struct Row {
    /// What `--device` takes.
    pick: String,
    is_default: bool,
    caps: Caps,
}

/// Prints the table.
pub(super) fn run(args: &ListArgs) -> u8 {
    let wanted = WANTED
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty());
    let rows = rows(gpu::list_devices(), wanted.as_deref());
    let text = match args.json {
        true => format!("{:#}\n", json(&rows)),
        false => table(&rows),
    };
    // A reader that has gone is quiet.
    let _ = say::result(&text);
    if rows.len() == 1 && !args.json {
        say::message(
            "no Vulkan, Metal, DX12 or GL driver was found; on Debian or Ubuntu: apt install mesa-vulkan-drivers",
        );
    }
    0
}

fn rows(adapters: Vec<Caps>, wanted: Option<&str>) -> Vec<Row> {
    let wanted = wanted.map(str::to_lowercase).filter(|w| w != "auto");
    let chosen = match wanted.as_deref() {
        None => Some(0),
        Some("cpu") => Some(adapters.len()),
        Some(w) => match w.parse::<usize>().ok().filter(|&i| i < adapters.len()) {
            Some(i) => Some(i),
            None => adapters
                .iter()
                .position(|caps| caps.name.to_lowercase().contains(w)),
        },
    };
    let n_adapters = adapters.len();
    let twin = Device::twin().caps().clone();
    let row = |(i, caps): (usize, Caps)| Row {
        pick: match i < n_adapters {
            true => i.to_string(),
            false => "cpu".to_owned(),
        },
        // Without a driver the twins must be asked for by name.
        is_default: chosen == Some(i) && (i < n_adapters || wanted.as_deref() == Some("cpu")),
        caps,
    };
    adapters
        .into_iter()
        .chain([twin])
        .enumerate()
        .map(row)
        .collect()
}

fn json(rows: &[Row]) -> Value {
    let device = |row: &Row| {
        let mut device = json!({ "device": row.pick, "default": row.is_default });
        if let (Value::Object(device), Ok(Value::Object(caps))) =
            (&mut device, serde_json::to_value(&row.caps))
        {
            device.extend(caps);
        }
        device
    };
    json!({ "schema": 1, "devices": rows.iter().map(device).collect::<Vec<_>>() })
}

fn table(rows: &[Row]) -> String {
    let head = [
        "", "DEVICE", "NAME", "BACKEND", "KIND", "TIER", "BUFFER", "BINDING", "FEATURES", "DRIVER",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(line));
    say::columns(&lines) + "* is taken if --device is not given\n"
}

fn line(row: &Row) -> Vec<String> {
    let caps = &row.caps;
    let limit = |bytes: u64| match caps.kind {
        Kind::Twin => "-".to_owned(),
        _ => format!("{} MiB", bytes >> 20),
    };
    vec![
        if row.is_default { "*" } else { "" }.to_owned(),
        row.pick.clone(),
        caps.name.clone(),
        caps.backend.clone(),
        kind(caps.kind).to_owned(),
        caps.tier.name().to_owned(),
        limit(caps.max_buffer_bytes),
        limit(caps.max_binding_bytes),
        features(caps),
        caps.driver.clone(),
    ]
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Discrete => "discrete",
        Kind::Integrated => "integrated",
        Kind::Virtual => "virtual",
        Kind::Other => "other",
        Kind::Software => "software",
        Kind::Twin => "no driver",
    }
}

fn features(caps: &Caps) -> String {
    let mut names = Vec::new();
    if caps.has_f16 {
        names.push("f16".to_owned());
    }
    if caps.tier == Tier::Subgroups {
        names.push(format!("subgroups of {}", caps.subgroup_size));
    }
    if caps.has_cooperative_matrix {
        names.push("matrices".to_owned());
    }
    match names.is_empty() {
        true => "-".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str) -> Caps {
        Caps {
            name: name.to_owned(),
            kind: Kind::Discrete,
            ..Caps::floor()
        }
    }

    fn default_of(wanted: Option<&str>) -> Option<String> {
        let rows = rows(vec![adapter("Big 4090"), adapter("Small Arc")], wanted);
        rows.into_iter()
            .find(|row| row.is_default)
            .map(|row| row.pick)
    }

    #[test]
    fn the_default_is_what_would_be_opened() {
        assert_eq!(default_of(None).as_deref(), Some("0"));
        assert_eq!(default_of(Some("auto")).as_deref(), Some("0"));
        assert_eq!(default_of(Some("arc")).as_deref(), Some("1"));
        assert_eq!(default_of(Some("1")).as_deref(), Some("1"));
        assert_eq!(default_of(Some("cpu")).as_deref(), Some("cpu"));
        assert_eq!(default_of(Some("radeon")), None);
    }

    #[test]
    fn without_drivers_the_twins_are_listed_and_not_taken() {
        let rows = rows(Vec::new(), None);
        assert_eq!((rows.len(), rows[0].is_default), (1, false));
        assert!(table(&rows).contains("no driver"));
    }
}
