//! Character references of HTML: the named ones of the standard, and numeric ones by its rules.

/// `name<TAB>code points in hex`, sorted by the bytes of the name; names end in `;` except where HTML lets it be missing.
///
/// Source: WHATWG HTML, "Named character references" (2,231 names).
const NAMED: &str = include_str!("entities.tsv");

/// Longest run of characters after `&` that is looked at as a name.
const MAX_NAME: usize = 32;

/// What a name stands for, `;` included where the name has one.
fn named(name: &str) -> Option<String> {
    let (mut low, mut high) = (0, NAMED.len());
    // Both ends stay at beginnings of lines.
    while low < high {
        let middle = (low + high) / 2;
        let start = NAMED[..middle].rfind('\n').map_or(0, |at| at + 1);
        let end = NAMED[start..].find('\n').map_or(NAMED.len(), |n| start + n);
        let (found, points) = NAMED[start..end].split_once('\t')?;
        match found.cmp(name) {
            std::cmp::Ordering::Equal => return points.split(' ').map(code_point).collect(),
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    None
}

fn code_point(hex: &str) -> Option<char> {
    char::from_u32(u32::from_str_radix(hex, 16).ok()?)
}

/// What the byte `c` means in Windows-1252, where that differs from Latin-1.
pub(super) fn windows_1252(c: char) -> Option<char> {
    // 0x80..=0x9f; the five bytes that Windows-1252 leaves open stand for themselves.
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    HIGH.get((c as usize).checked_sub(0x80)?).copied()
}

/// What `&#..` stands for: nothing for code points that HTML has no character for.
fn numeric(digits: &str, radix: u32) -> Option<char> {
    // Too many digits for u32 are too large for Unicode as well.
    let n = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
    match n {
        0 | 0xd800..=0xdfff => Some('\u{fffd}'),
        0x0d => Some('\r'),
        0x80..=0x9f => char::from_u32(n).and_then(windows_1252),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        0x11_0000.. => Some('\u{fffd}'),
        _ if n & 0xfffe == 0xfffe => None,
        _ => char::from_u32(n),
    }
}

/// Splits digits of `radix` off the front.
fn digits(text: &str, radix: u32) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_digit(radix))
            .unwrap_or(text.len()),
    )
}

/// Reads the number after `&#`: its character, if it has one, and what follows.
fn number(text: &str) -> Option<(Option<char>, &str)> {
    let (radix, text) = match text.strip_prefix(['x', 'X']) {
        Some(text) => (16, text),
        None => (10, text),
    };
    let (digits, rest) = digits(text, radix);
    let rest_after = rest.strip_prefix(';').unwrap_or(rest);
    (!digits.is_empty()).then(|| (numeric(digits, radix), rest_after))
}

/// Reads what follows `&` as a name by HTML's rules, without `;` by the longest name there is: what it stands for, and
/// what follows.
fn longest_name(text: &str) -> Option<(String, &str)> {
    let stop = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let mut ends: Vec<usize> = text
        .char_indices()
        .take(MAX_NAME)
        .take_while(|(_, c)| !stop(*c))
        .map(|(at, c)| at + c.len_utf8())
        .collect();
    let whole = *ends.last()?;
    if text[whole..].starts_with(';') {
        ends.push(whole + 1);
    }
    // Names have two characters at least.
    let found = ends.iter().skip(1).rev();
    found
        .filter_map(|end| Some((named(&text[..*end])?, &text[*end..])))
        .next()
}

/// Replaces character references as HTML reads them, also those without `;` where HTML allows that.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some((c, follows)) = after.strip_prefix('#').and_then(number) {
            out.extend(c);
            rest = follows;
        } else if let Some((value, follows)) = longest_name(after) {
            out.push_str(&value);
            rest = follows;
        } else {
            out.push('&');
            rest = after;
        }
    }
    out + rest
}

/// Replaces references that end in `;`, those of names in capitals that only exist in small letters among them.
///
/// Source: ftfy 6.3.1, `fixes.py::unescape_html`.
pub(super) fn unescape_closed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match closed(after) {
            Some((value, follows)) => {
                out.push_str(&value);
                rest = follows;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out + rest
}

/// Reads what follows `&` as `name;` or `#number;`.
fn closed(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('#').unwrap_or(text);
    let word = body
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(body.len());
    if !(1..=24).contains(&word) || !body[word..].starts_with(';') {
        return None;
    }
    let follows = &body[word + 1..];
    if body.len() < text.len() {
        let (c, left) = number(body)?;
        // A number that ends before the `;`, such as `&#12ab;`, is left alone.
        return (left.len() == follows.len())
            .then(|| (c.map_or(String::new(), String::from), follows));
    }
    let name = &body[..=word];
    let value = named(name).or_else(|| {
        let small = name.to_ascii_lowercase();
        let is_new = small != name && name.to_ascii_uppercase() == name;
        // `&AMPX;` begins with `&AMP`, a name by itself.
        let known = is_new && longest_name(name).is_none();
        named(&small).filter(|_| known).map(|v| v.to_uppercase())
    })?;
    Some((value, follows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_is_found() {
        let mut n = 0;
        for line in NAMED.lines() {
            let (name, points) = line.split_once('\t').unwrap();
            let want: String = points.split(' ').map(|p| code_point(p).unwrap()).collect();
            assert_eq!(named(name), Some(want), "{name}");
            n += 1;
        }
        assert_eq!(n, 2231);
        for name in ["", "a", "zzzz;", "AElig;;", "\u{10ffff}"] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn names_without_end_are_read_by_their_longest_beginning() {
        for (text, want) in [
            ("&notx;", "¬x;"),
            ("&notin;", "∉"),
            ("&notit;", "¬it;"),
            ("&amp", "&"),
            ("&ampamp;", "&amp;"),
            ("& &; &&gt;", "& &; &>"),
            ("&#38;#38;", "&#38;"),
            ("&#x41&#66C&#;&#x;", "ABC&#;&#x;"),
            (
                "&#0;&#xd800;&#1114112;&#99999999999;",
                "\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("a&#1;b&#xfffe;c&#128;d&#x81;", "abc€d\u{81}"),
        ] {
            assert_eq!(unescape(text), want, "{text}");
        }
    }

    #[test]
    fn closed_references_need_their_end() {
        for (text, want) in [
            ("&EACUTE;&eacute;&Eacute;", "ÉéÉ"),
            ("&amp", "&amp"),
            ("&notx;", "&notx;"),
            ("&#12ab;&#x41;&#66;", "&#12ab;AB"),
            ("&AMPERE;", "&AMPERE;"),
            ("&", "&"),
        ] {
            assert_eq!(unescape_closed(text), want, "{text}");
        }
    }
}
