//! Which tensors of a file are keys, values and queries of one layer, by their names alone. Pure.
//!
//! A name's last part that is a word for one of the three decides: `layers.3.k`, `past_key_values.3.key`,
//! `k_cache.layer3`. Names that differ in that part alone are one layer.

use std::collections::BTreeMap;

/// What a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Keys.
    K,
    /// Values.
    V,
    /// Queries.
    Q,
}

impl Role {
    /// Every role with the words for it.
    const WORDS: [(Role, &'static [&'static str]); 3] = [
        (Role::K, &["k", "key", "keys"]),
        (Role::V, &["v", "value", "values"]),
        (Role::Q, &["q", "query", "queries"]),
    ];

    /// What people call it.
    pub fn word(self) -> &'static str {
        ["keys", "values", "queries"][self as usize]
    }

    fn of(part: &str) -> Option<Role> {
        let part = part.trim_end_matches(|c: char| c.is_ascii_digit());
        let is = |words: &&str| part.eq_ignore_ascii_case(words);
        let found = Role::WORDS.iter().find(|(_, words)| words.iter().any(is));
        found.map(|(role, _)| *role)
    }
}

/// Keys, values and perhaps queries of one layer, by the names of their tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The layer: its number in the names where there is one, else its place.
    pub layer: usize,
    /// Keys.
    pub k: String,
    /// Values.
    pub v: String,
    /// Queries, where there are any.
    pub q: Option<String>,
}

/// A name without its role: what stands before and after it.
type Frame = (String, String);

/// Tensors with one such frame, by role.
type Found = (Frame, [Option<String>; 3]);

/// Splits a name at its last part that names a role.
fn split(name: &str) -> Option<(Frame, Role)> {
    let mut parts = Vec::new();
    let mut at = 0;
    for part in name.split(|c: char| !c.is_ascii_alphanumeric()) {
        parts.push((at, part));
        // Separators may be of several bytes, parts are ASCII.
        at += part.len();
        at += name[at..].chars().next().map_or(0, char::len_utf8);
    }
    let (at, part, role) = parts
        .into_iter()
        .rev()
        .find_map(|(at, part)| Some((at, part, Role::of(part)?)))?;
    let word = part.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    Some(((name[..at].to_owned(), name[at + word..].to_owned()), role))
}

/// The numbers in a name, in order.
fn numbers(frame: &Frame) -> Vec<usize> {
    let text = format!("{} {}", frame.0, frame.1);
    let digits = text.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|d| d.parse().ok()).collect()
}

/// Finds the layers of a file; the second list holds names that belong to none.
///
/// # Errors
/// No keys or values at all, a layer that lacks one of them, two tensors for one: a sentence that names them.
pub fn group<'a>(
    names: impl Iterator<Item = &'a str>,
) -> Result<(Vec<Group>, Vec<String>), String> {
    let (mut found, mut rest): (Vec<Found>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut places, mut seen) = (BTreeMap::new(), Vec::new());
    for name in names {
        seen.push(name.to_owned());
        let Some((frame, role)) = split(name) else {
            rest.push(name.to_owned());
            continue;
        };
        let at = *places.entry(frame.clone()).or_insert(found.len());
        if at == found.len() {
            found.push((frame, Default::default()));
        }
        if let Some(other) = found[at].1[role as usize].replace(name.to_owned()) {
            return Err(format!(
                "{other:?} and {name:?} both name the {} of one layer; keep one of them",
                role.word()
            ));
        }
    }
    let is_layer = |t: &[Option<String>; 3]| t[0].is_some() || t[1].is_some();
    let (layers, queries): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, t)| is_layer(t));
    rest.extend(queries.into_iter().flat_map(|(_, t)| t).flatten());
    if layers.is_empty() {
        seen.truncate(4);
        return Err(format!(
            "no tensor is called k, key, keys, v, value or values, with anything before or after; there are {}",
            match seen.is_empty() {
                true => "none at all".to_owned(),
                false => format!("{seen:?}"),
            }
        ));
    }
    let all: Vec<Vec<usize>> = layers.iter().map(|(f, _)| numbers(f)).collect();
    let column = layer_column(&all);
    let mut groups = Vec::new();
    for (i, ((before, after), [k, v, q])) in layers.into_iter().enumerate() {
        let lacks = |has: &Option<String>, role: Role| {
            format!(
                "{:?} has no {} beside it; they would be called {:?}",
                has.as_deref().unwrap_or_default(),
                role.word(),
                format!("{before}{}{after}", Role::WORDS[role as usize].1[0])
            )
        };
        groups.push(Group {
            layer: column.map_or(i, |c| all[i][c]),
            k: k.clone().ok_or_else(|| lacks(&v, Role::K))?,
            v: v.ok_or_else(|| lacks(&k, Role::V))?,
            q,
        });
    }
    groups.sort_by_key(|g| g.layer);
    Ok((groups, rest))
}

/// Which of the numbers in the names tells layers apart.
fn layer_column(all: &[Vec<usize>]) -> Option<usize> {
    let columns = all.iter().map(Vec::len).min()?;
    (0..columns).find(|c| {
        let mut values: Vec<usize> = all.iter().map(|n| n[*c]).collect();
        values.sort_unstable();
        values.windows(2).all(|w| w[0] != w[1])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(names: &[&str]) -> Vec<(usize, String, String, Option<String>)> {
        let (groups, _) = group(names.iter().copied()).unwrap();
        groups
            .into_iter()
            .map(|g| (g.layer, g.k, g.v, g.q))
            .collect()
    }

    #[test]
    fn names_of_many_programs_are_taken() {
        for (k, v, layer) in [
            ("layers.11.k", "layers.11.v", 11),
            ("k", "v", 0),
            ("key", "value", 0),
            ("past_key_values.3.key", "past_key_values.3.value", 3),
            ("kv_cache/7/keys", "kv_cache/7/values", 7),
            ("k_cache.layer5", "v_cache.layer5", 5),
            (
                "model.layers.2.self_attn.Key",
                "model.layers.2.self_attn.Value",
                2,
            ),
            ("k4", "v4", 4),
            ("é.k", "é.v", 0),
        ] {
            let got = groups(&[k, v]);
            assert_eq!(got, [(layer, k.to_owned(), v.to_owned(), None)]);
        }
    }

    #[test]
    fn layers_are_sorted_by_their_number_and_keep_queries() {
        let got = groups(&[
            "b.2.q", "b.10.k", "b.10.v", "b.2.k", "b.2.v", "scale", "x.q",
        ]);
        assert_eq!(got.iter().map(|g| g.0).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(
            (got[0].3.as_deref(), got[1].3.as_deref()),
            (Some("b.2.q"), None)
        );
        let (_, rest) = group(["k", "v", "scale", "x.q"].into_iter()).unwrap();
        assert_eq!(rest, ["scale", "x.q"]);
    }

    #[test]
    fn the_number_that_differs_is_the_layer() {
        let got = groups(&["net1.0.k", "net1.0.v", "net1.1.k", "net1.1.v"]);
        assert_eq!(got.iter().map(|g| g.0).collect::<Vec<_>>(), [0, 1]);
        let got = groups(&["a.k", "a.v", "b.k", "b.v"]);
        assert_eq!(got.iter().map(|g| g.0).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn what_does_not_make_layers_is_named() {
        let why = |names: &[&str]| group(names.iter().copied()).unwrap_err();
        let text = why(&["layers.0.k", "layers.0.v", "layers.1.k"]);
        assert!(
            text.contains("layers.1.k") && text.contains("layers.1.v"),
            "{text}"
        );
        let text = why(&["a.values"]);
        assert!(text.contains("a.values") && text.contains("a.k"), "{text}");
        let text = why(&["a.k", "a.key", "a.v"]);
        assert!(text.contains("a.key") && text.contains("both"), "{text}");
        assert!(why(&["weight", "bias"]).contains("bias"));
        assert!(why(&[]).contains("none at all"));
    }
}
