//! Prompts cleaned and cut into tokens, to the letter; the text encoder's tensors.

use std::collections::BTreeMap;
use std::path::Path;

use longtake::gpu::Device;
use longtake::ops::WeightFormat;
use longtake::text::{Tokenizer, Umt5, bucket, clean_prompt, fix_text, unescape_and_strip};
use longtake::weights::Weights;
use serde_json::Value;

use super::check::Check;
use super::file::{Set, say};

/// The class of prompts whose repair is a heuristic that is left out; the set calls it optional.
const OPTIONAL: &str = "mojibake";

fn cases(set: &Set, file: &str) -> Option<Vec<Value>> {
    let path = set.file(file)?;
    let text = std::fs::read_to_string(&path).unwrap();
    let Ok(Value::Array(cases)) = serde_json::from_str(&text) else {
        panic!("{} is no list", path.display())
    };
    assert!(!cases.is_empty(), "nothing to check in {}", path.display());
    Some(cases)
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field:?} in {case}"))
}

pub fn prompts() {
    let Some(set) = Set::find("selfforcing") else {
        return;
    };
    let Some(cases) = cases(&set, "prompt_clean.json") else {
        return;
    };
    let mut classes: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in &cases {
        let (class, prompt) = (text(case, "class"), text(case, "in"));
        let fixed = fix_text(prompt);
        let basic = unescape_and_strip(&fixed);
        let got = [fixed, basic, clean_prompt(prompt)];
        let want = ["fixed", "basic", "out"].map(|field| text(case, field));
        let counts = classes.entry(class).or_default();
        counts[1] += 1;
        if got == want {
            counts[0] += 1;
        } else if class != OPTIONAL {
            failures.push(format!(
                "{class}: {prompt:?} became {got:?}, wanted {want:?}"
            ));
        }
    }
    let counts = classes
        .iter()
        .map(|(c, [ok, n])| format!("{c} {ok} of {n}"));
    say(&format!(
        "selfforcing_prompt_clean: {}",
        counts.collect::<Vec<_>>().join(", ")
    ));
    let n = failures.len();
    failures.truncate(20);
    assert!(n == 0, "{n} failures\n  {}", failures.join("\n  "));
}

pub fn tokenizer() {
    let Some(set) = Set::find("selfforcing") else {
        return;
    };
    let Some(cases) = cases(&set, "tokenizer/expected.json") else {
        return;
    };
    let Some(path) = set.file("tokenizer/spiece.model") else {
        return;
    };
    let tokenizer = Tokenizer::open(&path).unwrap();
    let ids = |case: &Value, field: &str| -> Vec<u32> {
        let list = case[field].as_array().unwrap();
        list.iter().map(|v| v.as_u64().unwrap() as u32).collect()
    };
    for case in &cases {
        let prompt = text(case, "text");
        let got = tokenizer.encode(prompt).unwrap();
        let pieces: Vec<_> = got.iter().map(|id| tokenizer.piece(*id).unwrap()).collect();
        let want: Vec<_> = case["pieces"].as_array().unwrap().iter().collect();
        assert_eq!(pieces, want, "{prompt:?}");
        assert_eq!(got, ids(case, "ids"), "{prompt:?}");
        let whole = ids(case, "ids_with_eos");
        let tokens = tokenizer.tokens(prompt, 512).unwrap();
        assert_eq!((&tokens.ids, tokens.lost), (&whole, 0), "{prompt:?}");
        // Cut short, the end token stays and the text makes room.
        let end = tokenizer.end();
        for max in 1..whole.len() {
            let tokens = tokenizer.tokens(prompt, max).unwrap();
            assert_eq!(tokens.lost, whole.len() - max);
            assert_eq!(tokens.ids, [&whole[..max - 1], &[end]].concat());
        }
    }
    say(&format!(
        "selfforcing_tokenizer: {} texts, {} pieces",
        cases.len(),
        tokenizer.n_pieces()
    ));
}

/// `None` when an input is not there.
pub fn encoder(
    check: &mut Check,
    weights: &Path,
    device: &Device,
    format: WeightFormat,
    largest_buffer: Option<u64>,
) -> Option<()> {
    let weights = Weights::open(weights).unwrap();
    let mut encoder = Umt5::new(&weights, format).unwrap();
    if let Some(bytes) = largest_buffer {
        encoder = encoder.with_largest_buffer(bytes);
        let most = encoder.bytes(device.caps(), 1).weights;
        let all = Umt5::new(&weights, format).unwrap();
        assert!(
            most < all.bytes(device.caps(), 1).weights,
            "the limit makes no parts"
        );
    }
    let deltas = check.ints("bucket.delta")?;
    let buckets: Vec<i64> = deltas.iter().map(|d| bucket(*d) as i64).collect();
    check.exact("bucket.index", &buckets);
    for set in ["short", "long"] {
        let ids: Vec<u32> = (check.ints(&format!("{set}.ids"))?.iter())
            .map(|id| u32::try_from(*id).unwrap())
            .collect();
        let mask = check.ints(&format!("{set}.mask"))?;
        let n_real = mask.iter().filter(|m| **m == 1).count();
        assert!(
            mask[..n_real].iter().all(|m| *m == 1),
            "padding is on the right"
        );
        // What a pass makes on the way, where the set has it.
        let mut log = BTreeMap::new();
        let mut sink = |name: &str, values: Vec<f32>| {
            assert!(
                log.insert(name.to_owned(), values).is_none(),
                "{name} twice"
            );
        };
        let watched = encoder
            .encode(device, &ids, n_real, Some(&mut sink))
            .unwrap();
        for (name, values) in log {
            check.some_real(&format!("{set}.{name}"), &values);
        }
        let name = format!("{set}.prompt_embeds");
        check.real(&name, &watched);
        // Unwatched, and without the padding.
        let mut rows = encoder
            .encode(device, &ids[..n_real], n_real, None)
            .unwrap();
        rows.resize(ids.len() * encoder.config().dim, 0.0);
        check.real(&name, &rows);
    }
    Some(())
}
