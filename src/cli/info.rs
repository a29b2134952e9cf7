//! `longtake info`: what a film tells about itself.

use std::path::Path;

use longtake::media::{Info, recipe};
use serde_json::{Value, json};

use super::args::InfoArgs;
use super::say;

/// Prints what is known of a file.
///
/// # Errors
/// When it cannot be read or is no film.
pub(super) fn run(args: &InfoArgs) -> anyhow::Result<u8> {
    let info = recipe::read(&args.file)?;
    let text = match args.json {
        true => format!("{:#}\n", as_json(&info)),
        false => as_text(&info, &args.file),
    };
    // A reader that has gone is quiet.
    let _ = say::result(&text);
    Ok(0)
}

fn as_json(info: &Info) -> Value {
    let mut json = json!({ "schema": 1, "secs": info.secs() });
    if let (Value::Object(json), Ok(Value::Object(info))) = (&mut json, serde_json::to_value(info))
    {
        json.extend(info);
    }
    json
}

fn as_text(info: &Info, file: &Path) -> String {
    let mut facts = vec![format!("{:?}", info.kind)];
    if let (Some(w), Some(h)) = (info.width, info.height) {
        facts.push(format!("{w}x{h}"));
    }
    if let Some(frames) = info.frames {
        facts.push(format!("{frames} frames"));
    }
    if let (Some(fps), Some(secs)) = (info.fps, info.secs()) {
        facts.push(format!("{fps} a second, {}", say::secs(secs)));
    }
    if info.finished == Some(false) {
        facts.push("unfinished: its run was cut off".to_owned());
    }
    let mut text = format!("{}: {}\n", file.display(), facts.join(", "));
    let Some(recipe) = &info.recipe else {
        return text + "no recipe is stored in it\n";
    };
    let width = recipe
        .entries()
        .map(|(key, _)| key.len())
        .max()
        .unwrap_or(0);
    for (key, value) in recipe.entries() {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // What was stored by others is shown, not obeyed.
        let value: String = value
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        text += &format!("  {key:width$}  {value}\n");
    }
    text
}
