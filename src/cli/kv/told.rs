//! How a file was understood, in words.

use longtake::dump::{Axes, AxesBy, Dump, ranges};

use crate::cli::say;

/// How axes were guessed to run, if they were.
pub(super) fn guess(dump: &Dump) -> Option<String> {
    let (first, (axes, by)) = (dump.layers().first()?, dump.axes());
    let (is, other) = match axes {
        Axes::Thd => ("tokens, heads, head_dim", Axes::Htd),
        Axes::Htd => ("heads, tokens, head_dim", Axes::Thd),
    };
    (by == AxesBy::Guess).then(|| {
        format!(
            "{:?} is taken as [{is}] with {} and {}, since heads are fewer; if that is wrong, give --layout {}",
            first.names.k,
            count(first.shape.n_heads, "head"),
            count(first.shape.tokens, "token"),
            other.name()
        )
    })
}

/// What was matched.
pub(super) fn understood(dump: &Dump) -> String {
    let numbers = dump.layers().iter().map(|l| l.names.layer as i64);
    let numbers: Vec<i64> = numbers.collect();
    let first = &dump.layers()[0];
    let (names, s) = (&first.names, first.shape);
    let more = if numbers.len() > 1 { " and so on" } else { "" };
    let q = names
        .q
        .as_ref()
        .map_or(String::new(), |q| format!(", {q:?}"));
    format!(
        "layers {}: {:?}, {:?}{q}{more}; {} of {} channels, {}",
        ranges(&numbers),
        names.k,
        names.v,
        count(s.n_heads, "head"),
        s.head_dim,
        count(s.tokens, "token"),
    )
}

fn count(n: usize, what: &str) -> String {
    say::n(u32::try_from(n).unwrap_or(u32::MAX), what)
}

pub(super) fn form(extensions: &[&str]) -> String {
    match extensions.is_empty() {
        true => "the released layout".to_owned(),
        false => format!("the released layout extended by {}", extensions.join(", ")),
    }
}

/// What the queries of a dump are, and how many are taken.
pub(super) fn queries(dump: &Dump, most: usize) -> (&'static str, usize) {
    let first = &dump.layers()[0];
    match first.names.q {
        Some(_) => ("queries", most.min(first.n_queries)),
        None => ("newest_keys", most.min(first.shape.tokens)),
    }
}

pub(super) fn queries_text(dump: &Dump, most: usize) -> String {
    let (are, n) = queries(dump, most);
    let turned = match dump.head().places {
        Some(_) => "keys turned by RoPE as attention turns them",
        None => "nothing turned by RoPE, since positions are not in the file",
    };
    let what = match are {
        "queries" => format!("{n} queries of the file"),
        _ => format!(
            "the keys of the newest {}, which stand in for queries, since the file has none: read it as a tendency",
            count(n, "token")
        ),
    };
    format!(
        "errors are |difference| / |true value| over all layers; attention is over the coded keys alone, with {what}; \
         {turned}; lse is the mean error of the log-sum-exp under the mass correction named"
    )
}
