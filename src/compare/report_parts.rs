//! The lower half of the report: pictures and protocol.

use std::fmt::Write as _;

use super::Error;
use super::files::Files;
use super::picture::{self, Strip};
use super::plot::escape;
use super::protocol::Protocol;

/// Frames of one run a setting, as pictures.
///
/// # Errors
/// When a picture cannot be packed.
pub(super) fn pictures(strips: &[Strip], p: &Protocol) -> Result<String, Error> {
    let times = strips.first().map_or(&[][..], |strip| &strip.pictures);
    let head: String = times
        .iter()
        .map(|(i, _)| format!("<th scope=col>frame {i}</th>"))
        .collect();
    let mut lines = String::new();
    for Strip {
        name,
        note,
        pictures,
    } in strips
    {
        let _ = write!(
            lines,
            "<tr><th scope=row>{}<small>{}</small></th>",
            escape(name),
            escape(note)
        );
        for (i, picture) in pictures {
            lines += &match picture {
                Some(frame) => {
                    let uri = picture::data_uri(frame)?;
                    let label = if name.is_empty() { note } else { name };
                    format!(
                        "<td><img src='{uri}' alt='{}, frame {i}'></td>",
                        escape(label)
                    )
                }
                None => "<td class=soft>-</td>".to_owned(),
            };
        }
        lines += "</tr>";
    }
    let of = match (p.films.first(), p.seeds.first()) {
        (Some(film), Some(seed)) => {
            format!(
                "Film {} ({}), seed {seed}",
                film.film(),
                escape(film.title())
            )
        }
        _ => String::new(),
    };
    Ok(format!(
        "<p class=soft>{of}: the last frame of each time window.</p><div class=card><table class=strips>\
         <thead><tr><th></th>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    ))
}

/// What was compared, how, and where all of the figures are.
pub(super) fn facts(p: &Protocol, files: &Files) -> String {
    let [json, csv] = files.beside();
    let list = |items: &[String]| items.join(", ");
    let window = p.window.map_or("all frames".to_owned(), |n| {
        format!("{n} frames, sink {}", p.sink)
    });
    let seeds: Vec<String> = p.seeds.iter().map(u64::to_string).collect();
    let mut facts = vec![
        ("command line", p.command_line.clone()),
        ("longtake", p.version.to_owned()),
        ("date", p.date.clone()),
        ("device", format!("{}, {}", p.device, p.tier)),
        ("driver", p.driver.clone()),
        (
            "model",
            format!(
                "{}, weights {}, {} denoising steps, {} frames a chunk",
                p.model, p.weights, p.steps, p.chunk_frames
            ),
        ),
        (
            "settings",
            format!("{}, against {}", list(&p.settings), p.reference),
        ),
        (
            "attended",
            format!("{window}, where a setting does not say otherwise"),
        ),
        ("seeds", list(&seeds)),
    ];
    facts.extend(p.films.iter().map(|film| ("film", film.text(p))));
    facts.push((
        "figures",
        format!(
            "{json} has every figure of every run and frame, {csv} a line a run and time window"
        ),
    ));
    let mut html = "<div class=card><dl>".to_owned();
    for (what, text) in facts {
        let text = escape(&text);
        let text = if what == "command line" {
            format!("<code>{text}</code>")
        } else {
            text
        };
        let _ = write!(html, "<dt>{what}</dt><dd>{text}</dd>");
    }
    let method: String = p
        .method
        .iter()
        .map(|text| format!("<li>{}</li>", escape(text)))
        .collect();
    html + &format!("</dl></div><ol>{method}</ol>")
}
