//! Prompts as the text encoder was trained on them: repaired, without HTML's references, single-spaced.
//!
//! Source: SELF-FORCING 2.1 (`ftfy.fix_text`, `html.unescape` twice, white space). ftfy's repair of mojibake, text that was
//! decoded with the wrong encoding, is left out: it is a heuristic over large tables which sound text never meets.

use unicode_normalization::UnicodeNormalization as _;

use super::entities::{unescape, unescape_closed, windows_1252};

/// Longest line ftfy takes at once, in characters; what follows is taken as another line.
const MAX_LINE: usize = 1_000_000;
/// Rounds of fixing a line.
const MAX_ROUNDS: usize = 64;

/// The prompt as it is tokenized.
pub fn clean_prompt(prompt: &str) -> String {
    let basic = unescape_and_strip(&fix_text(prompt));
    basic.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// References of HTML replaced twice over, and white space cut at both ends.
pub fn unescape_and_strip(text: &str) -> String {
    let space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    unescape(&unescape(text)).trim_matches(space).to_owned()
}

/// Odd characters replaced by plain ones, line by line: references, control characters, ligatures, wide forms, curly
/// quotes, line ends, terminal colours; then NFC. What is there is repeated until nothing changes.
///
/// Source: ftfy 6.3.1, `fix_text` with its default settings, but for the repair of mojibake.
pub fn fix_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut references = true;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let end = (rest[..end].char_indices())
            .nth(MAX_LINE)
            .map_or(end, |(at, _)| at);
        // Once a line looks like HTML the text is taken for HTML, in which references mean something.
        references &= !rest[..end].contains('<');
        let mut line = rest[..end].to_owned();
        // Until nothing changes; a text that nests references deeper than this was made to cost time.
        for _ in 0..MAX_ROUNDS {
            let fixed = fix_line(&line, references);
            if fixed == line {
                break;
            }
            line = fixed;
        }
        out.push_str(&line);
        rest = &rest[end..];
    }
    out
}

fn fix_line(line: &str, references: bool) -> String {
    let line = if references {
        unescape_closed(line)
    } else {
        line.to_owned()
    };
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        let c = windows_1252(c).unwrap_or(c);
        match ligature(c) {
            Some(letters) => plain.extend(letters.chars().map(uncurled)),
            None if c == '\u{3000}' => plain.push(' '),
            None if ('\u{ff01}'..='\u{ffef}').contains(&c) => plain.extend(c.nfkc()),
            None => plain.push(uncurled(c)),
        }
    }
    let ends = plain.replace("\r\n", "\n");
    let ends = ends.replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
    without_escapes(&ends)
        .chars()
        .filter(|c| !is_control(*c))
        .nfc()
        .collect()
}

/// The letters of a Latin ligature.
fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

fn uncurled(c: char) -> char {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        _ => c,
    }
}

/// Takes out what colours a terminal: ESC `[`, digits and semicolons, a letter.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let body = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        let (kept, follows) = match body.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(follows) => (at, follows),
            None => (at + 1, &rest[at + 1..]),
        };
        out.push_str(&rest[..kept]);
        rest = follows;
    }
    out + rest
}

fn is_control(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_recognized_from_its_line_on() {
        assert_eq!(fix_text("&amp;\n<\n&amp;"), "&\n<\n&amp;");
        assert_eq!(clean_prompt("&amp;\n<\n&amp;amp;amp;"), "& < &amp;");
    }

    #[test]
    fn half_an_escape_loses_only_its_control_character() {
        assert_eq!(fix_text("\u{1b}[31mred\u{1b}[;;\u{1b}[1"), "red[;;[1");
    }

    #[test]
    fn repairs_are_repeated_until_nothing_changes() {
        assert_eq!(fix_text("&amp;#xFB01;x"), "fix");
        assert_eq!(fix_text("ŉ"), "'n");
        assert_eq!(fix_text("a\u{85}\u{92}"), "a…'");
    }

    #[test]
    fn cleaning_cleaned_text_changes_nothing() {
        for text in ["", " a  b ", "“x”", "\u{1d}x\u{1d}", "a &lt b", "é\u{301}"] {
            let once = clean_prompt(text);
            assert_eq!(clean_prompt(&once), once, "{text:?}");
        }
    }
}
