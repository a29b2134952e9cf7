//! What the window remembers from one start to the next: its place and size, its theme, which panes were open.
//!
//! A file that cannot be read counts as none: a window that opens at its usual place is better than one that does not.

use std::path::PathBuf;

use serde_json::{Value, json};

/// Remembered things; `None`: as usual.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Prefs {
    /// Size in points.
    pub size: Option<[f32; 2]>,
    /// Upper left corner in physical pixels.
    pub place: Option<[i32; 2]>,
    /// Theme that was chosen.
    pub dark: Option<bool>,
    /// Settings were open.
    pub settings: bool,
}

/// Where it lies: the system's folder for such files.
fn path() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let folder = match (var("XDG_CONFIG_HOME"), var("APPDATA"), var("HOME")) {
        (Some(folder), ..) => PathBuf::from(folder),
        (_, Some(folder), _) if cfg!(windows) => PathBuf::from(folder),
        (.., Some(home)) if cfg!(target_os = "macos") => {
            PathBuf::from(home).join("Library/Application Support")
        }
        (.., Some(home)) => PathBuf::from(home).join(".config"),
        _ => return None,
    };
    Some(folder.join("longtake").join("window.json"))
}

impl Prefs {
    /// Reads them.
    pub fn load() -> Prefs {
        let text = path().and_then(|path| std::fs::read_to_string(path).ok());
        text.map_or(Prefs::default(), |text| Prefs::parse(&text))
    }

    fn parse(text: &str) -> Prefs {
        let json: Value = serde_json::from_str(text).unwrap_or_default();
        let pair = |key: &str| {
            let of = |i: usize| {
                json.get(key)?
                    .get(i)?
                    .as_f64()
                    .filter(|v| v.abs() < 65_536.0)
            };
            Some([of(0)?, of(1)?])
        };
        Prefs {
            size: pair("size")
                .filter(|[w, h]| *w >= 320.0 && *h >= 240.0)
                .map(|p| p.map(|v| v as f32)),
            place: pair("place").map(|p| p.map(|v| v as i32)),
            dark: json.get("dark").and_then(Value::as_bool),
            settings: json.get("settings").and_then(Value::as_bool) == Some(true),
        }
    }

    fn text(&self) -> String {
        let json = json!({
            "size": self.size,
            "place": self.place,
            "dark": self.dark,
            "settings": self.settings,
        });
        format!("{json:#}\n")
    }

    /// Writes them; a folder that cannot be written to is no fault of the film.
    pub fn save(&self) {
        let Some(path) = path() else { return };
        let done = match path.parent() {
            Some(folder) => std::fs::create_dir_all(folder),
            None => Ok(()),
        };
        if let Err(e) = done.and_then(|()| std::fs::write(&path, self.text())) {
            log::info!("{}: {e}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nonsense_is_nothing() {
        let p = Prefs {
            size: Some([1280.5, 800.0]),
            place: Some([-20, 40]),
            dark: Some(false),
            settings: true,
        };
        assert_eq!(Prefs::parse(&p.text()), p);
        let bad = [
            "",
            "[]",
            r#"{"size": [1, 2], "place": "left"}"#,
            r#"{"size": [1e9, 800]}"#,
        ];
        for text in bad {
            assert_eq!(Prefs::parse(text), Prefs::default(), "{text}");
        }
    }
}
