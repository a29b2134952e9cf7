//! The header of a safetensors file: the `safetensors` crate decides whether it is sound, this file says in our own words
//! what is wrong when it is not, and gives every tensor its bare name.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use safetensors::{SafeTensorError, SafeTensors};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Error;
use super::entry::{Entries, Entry, Naming, Place};

/// Bytes of the little-endian header length that a file starts with.
const LEN_BYTES: usize = 8;

/// What a header says.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Tensors by name.
    pub(super) entries: Entries,
    /// What the writer noted beside them.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads the header of `bytes`, the whole file.
///
/// # Errors
/// Whatever makes the file unusable before its values are looked at; never panics, on any bytes.
pub(super) fn parse(bytes: &[u8], path: &Path, naming: Naming<'_>) -> Result<Parsed, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty {
            path: path.to_owned(),
        });
    }
    let (header_bytes, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| explain(error, bytes, path))?;
    let data_start = LEN_BYTES + header_bytes;
    let mut stored: Vec<(String, &TensorInfo)> = metadata.tensors().into_iter().collect();
    stored.sort_by(|a, b| a.0.cmp(&b.0));

    let mut entries = BTreeMap::new();
    for (second, info) in &stored {
        let name = naming.name(second);
        let (start, end) = info.data_offsets;
        let range = data_start + start..data_start + end;
        let entry = Entry {
            dtype: info.dtype,
            shape: info.shape.clone(),
            place: Place::File(range),
        };
        if entries.insert(name.clone(), entry).is_some() {
            let first = stored.iter().find(|(first, _)| naming.name(first) == name);
            let first = first.map(|(first, _)| first.clone()).unwrap_or_default();
            return Err(Error::Collision {
                name,
                first,
                second: second.clone(),
                path: path.to_owned(),
            });
        }
    }
    let noted = metadata.metadata().iter().flatten();
    Ok(Parsed {
        entries,
        metadata: noted.map(|(k, v)| (k.clone(), v.clone())).collect(),
    })
}

/// Turns the crate's refusal into ours: what the file is instead, or which tensor is wrong and by how much.
fn explain(source: SafeTensorError, bytes: &[u8], path: &Path) -> Error {
    if let Some(other) = other_type(bytes, path) {
        return other;
    }
    let found = bytes.len() as u64;
    let Some(len) = bytes.first_chunk::<LEN_BYTES>() else {
        return Error::Truncated {
            found,
            expected: LEN_BYTES as u64,
            path: path.to_owned(),
        };
    };
    let header_bytes = u64::from_le_bytes(*len);
    let data_start = header_bytes.saturating_add(LEN_BYTES as u64);
    match source {
        SafeTensorError::HeaderTooLarge => Error::NotSafetensors {
            path: path.to_owned(),
        },
        _ if found < data_start => Error::Truncated {
            found,
            expected: data_start,
            path: path.to_owned(),
        },
        source => {
            // `data_start <= found`, a length in memory, so neither conversion nor slice can fail.
            let header = usize::try_from(data_start)
                .ok()
                .and_then(|end| bytes.get(LEN_BYTES..end));
            let fault = header.and_then(|header| tensor_fault(header, found, path));
            fault.unwrap_or_else(|| Error::Header {
                source,
                path: path.to_owned(),
            })
        }
    }
}

/// The error for a file that is plainly something else, by its first bytes. Only asked once the file is refused: a sound
/// file may start with any of these bytes, since they are its header's length.
fn other_type(bytes: &[u8], path: &Path) -> Option<Error> {
    let path = path.to_owned();
    let head = &bytes[..bytes.len().min(512)];
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower = text
        .get(..text.len().min(64))
        .unwrap_or(text)
        .to_ascii_lowercase();
    if lower.starts_with("version https://git-lfs") {
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        return Some(Error::LfsPointer {
            bytes: size.and_then(|size| size.trim().parse().ok()),
            path,
        });
    }
    if ["<!doctype", "<html", "<head", "<?xml", "<!--"]
        .iter()
        .any(|tag| lower.starts_with(tag))
    {
        return Some(Error::WebPage { path });
    }
    if lower.starts_with('{') || lower.starts_with('[') {
        return Some(Error::Json { path });
    }
    let starts_like_a_header = head.get(LEN_BYTES).is_none_or(|byte| *byte == b'{');
    (!starts_like_a_header).then_some(Error::NotSafetensors { path })
}

/// The header once more, as far as a report needs it.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    _metadata: Option<IgnoredAny>,
    #[serde(flatten)]
    tensors: BTreeMap<String, TensorInfo>,
}

/// The first tensor that breaks the format's rules (data in one run, without gaps, each of its shape's length), or a file
/// length other than the header's sum. `None` when the header is not even JSON of the right form.
fn tensor_fault(header: &[u8], file_bytes: u64, path: &Path) -> Option<Error> {
    let data_start = (LEN_BYTES + header.len()) as u64;
    let header: Header = serde_json::from_slice(header).ok()?;
    let mut tensors: Vec<(String, TensorInfo)> = header.tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let path = path.to_owned();
    let mut expected = 0;
    for (name, info) in tensors {
        let (dtype, shape, (start, end)) = (info.dtype, info.shape, info.data_offsets);
        if start != expected || end < start {
            return Some(Error::Offsets {
                name,
                start,
                end,
                expected,
                path,
            });
        }
        let elements = shape
            .iter()
            .try_fold(1_usize, |product, &n| product.checked_mul(n));
        let Some(bits) = elements.and_then(|elements| elements.checked_mul(dtype.bitsize())) else {
            return Some(Error::ShapeOverflow { name, shape, path });
        };
        let (found, wanted) = (end - start, bits.div_ceil(8));
        if found != wanted {
            return Some(Error::Length {
                name,
                dtype,
                shape,
                found,
                expected: wanted,
                path,
            });
        }
        expected = end;
    }
    let expected = data_start.saturating_add(expected as u64);
    match file_bytes {
        found if found < expected => Some(Error::Truncated {
            found,
            expected,
            path,
        }),
        found if expected < found => Some(Error::TooLong {
            found,
            expected,
            path,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::bare_name;
    use super::super::sample;
    use super::*;

    const BARE: Naming<'_> = Naming::Bare(&[]);

    fn refusal(bytes: &[u8]) -> Error {
        parse(bytes, Path::new("x.safetensors"), BARE).expect_err("must be refused")
    }

    #[test]
    fn wrappers_come_off_names() {
        for (stored, bare) in [
            ("blocks.0.self_attn.q.weight", "blocks.0.self_attn.q.weight"),
            ("model.blocks.0.modulation", "blocks.0.modulation"),
            (
                "model._fsdp_wrapped_module.head.modulation",
                "head.modulation",
            ),
            (
                "_fsdp_wrapped_module.model.head.modulation",
                "head.modulation",
            ),
            (
                "model.blocks.3._checkpoint_wrapped_module._fsdp_wrapped_module.ffn.0.bias",
                "blocks.3.ffn.0.bias",
            ),
            (
                "model.diffusion_model.patch_embedding.bias",
                "patch_embedding.bias",
            ),
            ("model.model.a", "model.a"),
            ("supermodel.a", "supermodel.a"),
        ] {
            assert_eq!(bare_name(stored), bare, "{stored}");
        }
    }

    #[test]
    fn names_that_become_equal_are_refused() {
        let bytes = sample::file(&[
            ("model.a", "F16", &[1], &[0, 0]),
            ("a", "F16", &[1], &[0, 0]),
        ]);
        let Error::Collision {
            name,
            first,
            second,
            ..
        } = refusal(&bytes)
        else {
            panic!("not a collision")
        };
        assert_eq!(
            (name.as_str(), first.as_str(), second.as_str()),
            ("a", "a", "model.a")
        );
    }

    #[test]
    fn every_truncation_is_named_as_one() {
        let whole = sample::small();
        assert!(parse(&whole, Path::new("x"), BARE).is_ok());
        for len in 1..whole.len() {
            match refusal(&whole[..len]) {
                Error::Truncated {
                    found, expected, ..
                } => {
                    assert_eq!(found, len as u64);
                    assert!(
                        (len as u64) < expected && expected <= whole.len() as u64,
                        "{len}: {expected}"
                    );
                }
                other => panic!("cut at {len}: {other}"),
            }
        }
        assert!(matches!(refusal(&[]), Error::Empty { .. }));
        let longer = [whole.as_slice(), b"!"].concat();
        assert!(
            matches!(refusal(&longer), Error::TooLong { found, expected, .. } if found == expected + 1)
        );
    }

    #[test]
    fn other_files_are_recognised() {
        let lfs =
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 5676070424\n";
        assert!(matches!(
            refusal(lfs),
            Error::LfsPointer {
                bytes: Some(5_676_070_424),
                ..
            }
        ));
        assert!(refusal(lfs).to_string().contains("git lfs pull"));
        for page in [
            "<!DOCTYPE html><html>",
            "\r\n <HTML lang=en>",
            "\u{feff}<html>",
            "<?xml version='1.0'?><Error/>",
        ] {
            assert!(
                matches!(refusal(page.as_bytes()), Error::WebPage { .. }),
                "{page}"
            );
        }
        assert!(matches!(
            refusal(b"{\"weight_map\": {}}"),
            Error::Json { .. }
        ));
        assert!(matches!(
            refusal(b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0"),
            Error::NotSafetensors { .. }
        ));
        assert!(matches!(refusal(&[0; 64]), Error::NotSafetensors { .. }));
        assert!(matches!(refusal(&[0xff; 64]), Error::NotSafetensors { .. }));
    }

    #[test]
    fn a_header_length_that_looks_like_a_pickle_is_fine() {
        let entry = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#;
        let bytes = sample::raw(&format!("{entry:0$}", 0x282), &[0, 0]);
        assert_eq!(bytes[..2], [0x82, 2]);
        assert!(parse(&bytes, Path::new("x"), BARE).is_ok());
    }

    #[test]
    fn mislabelled_tensors_are_named() {
        let one = |dtype: &str, shape: &str, start: usize, end: usize| {
            let a = r#""a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}"#;
            let b = format!(
                r#""b":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#
            );
            sample::raw(&format!("{{{a},{b}}}"), &[0; 8])
        };
        assert!(parse(&one("F16", "[2]", 4, 8), Path::new("x"), BARE).is_ok());
        for (start, end) in [(3, 7), (5, 9), (4, 2)] {
            match refusal(&one("F16", "[2]", start, end)) {
                Error::Offsets { name, expected, .. } => {
                    assert_eq!((name.as_str(), expected), ("b", 4));
                }
                other => panic!("{start}..{end}: {other}"),
            }
        }
        assert!(
            matches!(refusal(&one("F16", "[2,2]", 4, 8)), Error::Length { name, found: 4, expected: 8, .. } if name == "b")
        );
        assert!(matches!(
            refusal(&one("F32", "[2]", 4, 8)),
            Error::Length {
                found: 4,
                expected: 8,
                ..
            }
        ));
        assert!(matches!(
            refusal(&one("F4", "[3]", 4, 5)),
            Error::Length { .. } | Error::Header { .. }
        ));
        let huge = format!("[{0},{0},{0}]", u32::MAX);
        assert!(
            matches!(refusal(&one("F16", &huge, 4, 8)), Error::ShapeOverflow { name, .. } if name == "b")
        );
        assert!(matches!(
            refusal(&one("F16", "[400]", 4, 804)),
            Error::Truncated { .. }
        ));
        assert!(matches!(
            refusal(&one("F7", "[2]", 4, 8)),
            Error::Header { .. }
        ));
        assert!(matches!(
            refusal(&one("F16", "[-2]", 4, 8)),
            Error::Header { .. }
        ));
        assert!(matches!(
            refusal(&sample::raw("{\"a\":3}", &[])),
            Error::Header { .. }
        ));
        assert!(matches!(
            refusal(&sample::raw("{nonsense", &[])),
            Error::Header { .. }
        ));
    }
}
