//! PyTorch checkpoints (`.pt`, `.pth`): a zip around a pickle since version 1.6, a row of pickles before. Only tensors are
//! read, by a machine that has nothing it could call ([`pickle`]); their values stay in the map.
//!
//! Source: PyTorch 2.9, `torch/serialization.py` (`_save`, `_legacy_save`).

mod fault;
mod pickle;
mod zip;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

pub use fault::Fault;

use super::Error;
use super::entry::{Entries, Entry, Naming, Place};
use fault::shortened;
use pickle::{Machine, Object, Tensor, Value};

/// The number that a checkpoint without a zip begins with, as its pickle holds it.
///
/// Source: PyTorch, `torch/serialization.py::MAGIC_NUMBER`.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The version that follows it.
const VERSION: i64 = 1001;

/// Whether `bytes` begin as a zip or a pickle does, and not as a safetensors header of that length.
pub(super) fn is_checkpoint(bytes: &[u8]) -> bool {
    // In a safetensors file the header's brace is the ninth byte; there a zip has a method, and a pickle of torch.save
    // the middle of its number.
    let is_header = bytes.get(8) == Some(&b'{');
    let is_pickle = matches!(bytes, [0x80, 2..=5, opcode, ..] if *opcode != 0);
    !is_header
        && (bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") || is_pickle)
}

/// Reads a checkpoint, the whole file.
///
/// # Errors
/// Whatever makes it unusable; never panics, on any bytes, and allocates no more than a fixed multiple of the pickle and,
/// for views that are not contiguous, once the file's size.
pub(super) fn parse(bytes: &[u8], path: &Path, naming: Naming<'_>) -> Result<Entries, Error> {
    let read = match bytes.starts_with(b"PK") {
        true => Checkpoint::from_zip(bytes),
        false => Checkpoint::from_stream(bytes),
    };
    let refused = |source| Error::Torch {
        source,
        path: path.to_owned(),
    };
    let checkpoint = read.map_err(refused)?;
    let found = checkpoint.tensors(naming).map_err(refused)?;
    let mut entries: BTreeMap<String, (String, Entry)> = BTreeMap::new();
    // What is gathered is copied, and stays below the file's own size: an expanded view may claim any number of values.
    let mut budget = bytes.len();
    for (stored, at) in found {
        let Some(Object::Tensor(tensor)) = checkpoint.machine.object(at) else {
            continue;
        };
        let entry = checkpoint
            .entry(bytes, tensor, &mut budget)
            .map_err(refused)?;
        let name = naming.name(&stored);
        if let Some((first, _)) = entries.insert(name.clone(), (stored.clone(), entry)) {
            return Err(Error::Collision {
                name,
                first,
                second: stored,
                path: path.to_owned(),
            });
        }
    }
    Ok(entries
        .into_iter()
        .map(|(name, (_, entry))| (name, entry))
        .collect())
}

/// A checkpoint whose objects are read and whose storages are found.
struct Checkpoint<'a> {
    machine: Machine<'a>,
    top: Value,
    /// Bytes of its pickle.
    pickle_bytes: usize,
    /// Where each of the machine's storages lies in the file.
    places: Vec<Range<usize>>,
}

impl<'a> Checkpoint<'a> {
    fn from_zip(bytes: &'a [u8]) -> Result<Self, Fault> {
        let directory = zip::directory(bytes)?;
        let is_pickle = |name: &&String| *name == "data.pkl" || name.ends_with("/data.pkl");
        let pickles: Vec<&String> = directory.keys().filter(is_pickle).collect();
        let (root, pickle) = match pickles[..] {
            [name] => (
                name.strip_suffix("data.pkl").unwrap_or_default(),
                &directory[name],
            ),
            _ => return Err(Fault::Pickles(pickles.len())),
        };
        if root.is_empty() {
            return Err(Fault::Pickles(0));
        }
        let contents = |entry: &zip::Entry, name: &str| match entry.is_compressed {
            true => Err(Fault::Compressed(shortened(name))),
            false => Ok(&bytes[entry.range.clone()]),
        };
        if let Some(entry) = directory.get(&format!("{root}byteorder"))
            && contents(entry, "byteorder")?.trim_ascii() != b"little"
        {
            return Err(Fault::BigEndian);
        }
        let text = contents(pickle, "data.pkl")?;
        let read = pickle::read(text).and_then(|(top, machine, len)| match len == text.len() {
            true => Ok((top, machine)),
            false => Err(Fault::Malformed("bytes follow its end")),
        });
        let (top, machine) = read.map_err(|fault| match pickle.crc == zip::crc32(text) {
            true => fault,
            // Some writers leave the sum out, so it only tells why a pickle makes no sense.
            false => Fault::Checksum,
        })?;
        let mut places = Vec::with_capacity(machine.storages.len());
        for storage in &machine.storages {
            let key = machine.text(storage.key);
            let entry = directory.get(&format!("{root}data/{key}"));
            let entry = entry.ok_or_else(|| Fault::NoStorage(shortened(key)))?;
            contents(entry, key)?;
            let expected = storage_bytes(&machine, storage)?;
            if entry.range.len() as u64 != expected {
                return Err(Fault::StorageLength {
                    key: shortened(key),
                    found: entry.range.len() as u64,
                    expected,
                });
            }
            places.push(entry.range.clone());
        }
        Ok(Self {
            top,
            pickle_bytes: text.len(),
            places,
            machine,
        })
    }

    /// A number, a version, facts about the machine, the object, the order of the storages, and then each storage: its
    /// number of values and the values.
    fn from_stream(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut at = 0;
        // A pickle that begins with anything but the number is somebody else's; what it holds need not be known.
        let is_ours = match pickle::read(bytes) {
            Ok((Value::Long(number), machine, len)) => {
                at += len;
                machine.raw(number) == MAGIC
            }
            _ => false,
        };
        if !is_ours {
            return Err(match bytes.len() < MAGIC.len() + 5 {
                true => Fault::Truncated("its first number"),
                false => Fault::NotTorch,
            });
        }
        let (version, _, len) = pickle::read(&bytes[at..])?;
        at += len;
        if version != Value::Int(VERSION) {
            return Err(Fault::NotTorch);
        }
        let (facts, machine, len) = pickle::read(&bytes[at..])?;
        at += len;
        if let Some(Value::Bool(false)) = dict(&machine, facts)?.get("little_endian") {
            return Err(Fault::BigEndian);
        }
        let (top, machine, pickle_bytes) = pickle::read(&bytes[at..])?;
        at += pickle_bytes;
        let (order, keys, len) = pickle::read(&bytes[at..])?;
        at += len;
        let Some(Object::List(order)) = object(&keys, order) else {
            return Err(Fault::Malformed("the order of its storages is no list"));
        };
        let order: Vec<&str> = order
            .iter()
            .map(|key| match key {
                Value::Text(span) => Ok(keys.text(*span)),
                _ => Err(Fault::Malformed(
                    "the order of its storages is no list of names",
                )),
            })
            .collect::<Result<_, _>>()?;
        let places = storages_in_order(bytes, at, &machine, &order)?;
        Ok(Self {
            machine,
            top,
            pickle_bytes,
            places,
        })
    }

    /// Paths and object indices of the wanted tensors.
    fn tensors(&self, naming: Naming<'_>) -> Result<Vec<(String, u32)>, Fault> {
        let top = dict(&self.machine, self.top)?;
        let Naming::Bare(parts) = naming else {
            return self.walk(self.top);
        };
        let is_dict =
            |value: &Value| matches!(object(&self.machine, *value), Some(Object::Dict { .. }));
        if let Some(part) = parts
            .iter()
            .find_map(|part| top.get(*part).filter(|part| is_dict(part)))
        {
            return self.walk(*part);
        }
        let has_tensor =
            |value: &Value| matches!(object(&self.machine, *value), Some(Object::Tensor(_)));
        if top.values().any(has_tensor) {
            return self.walk(self.top);
        }
        Err(Fault::NoPart {
            wanted: parts.iter().map(|&part| part.to_owned()).collect(),
            found: top.into_keys().map(|key| shortened(&key)).collect(),
        })
    }

    /// Every tensor below `top`, its path joined by dots. Not by recursion: lists may contain themselves.
    fn walk(&self, top: Value) -> Result<Vec<(String, u32)>, Fault> {
        const LOOPS: Fault = Fault::TooMuch("containers that contain each other over and over");
        // Each place in a container took an instruction to fill; more visits than that come from sharing alone.
        let mut visits = self.pickle_bytes;
        // A tensor takes some 150 bytes of pickle; its path, and those of what it lies in, are rarely longer.
        let mut name_bytes = 8 * self.pickle_bytes;
        let mut found = Vec::new();
        let mut open = vec![(String::new(), top, 0)];
        while let Some((path, value, depth)) = open.pop() {
            if pickle::MAX_DEPTH < depth {
                return Err(LOOPS);
            }
            // Paid before the path is made, so that a long key over many places costs no memory first.
            let mut join = |key: &str| {
                name_bytes = name_bytes
                    .checked_sub(path.len() + 1 + key.len())
                    .ok_or(LOOPS)?;
                Ok(match path.is_empty() {
                    true => key.to_owned(),
                    false => format!("{path}.{key}"),
                })
            };
            let mut visit = |n: usize| {
                visits
                    .checked_sub(n + 1)
                    .map(|left| visits = left)
                    .ok_or(LOOPS)
            };
            match (value, object(&self.machine, value)) {
                (Value::Object(at), Some(Object::Tensor(_))) => found.push((path, at)),
                (_, Some(Object::Dict { .. })) => {
                    let Some(Object::Dict { items, .. }) = object(&self.machine, value) else {
                        continue;
                    };
                    visit(items.len())?;
                    for (key, item) in dict(&self.machine, value)? {
                        if let Value::Object(_) = item {
                            open.push((join(&key)?, item, depth + 1));
                        }
                    }
                }
                (_, Some(Object::Tuple(items) | Object::List(items))) => {
                    visit(items.len())?;
                    for (i, &item) in items.iter().enumerate() {
                        if let Value::Object(_) = item {
                            open.push((join(&i.to_string())?, item, depth + 1));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// A tensor's values: where they lie, or a copy of those that do not lie in one piece.
    fn entry(&self, bytes: &[u8], tensor: &Tensor, budget: &mut usize) -> Result<Entry, Fault> {
        let storage = &self.machine.storages[tensor.storage as usize];
        let width = storage.dtype.bitsize() / 8;
        let whole = self.places[tensor.storage as usize].clone();
        let place = if tensor.count == 0 {
            Place::File(whole.start..whole.start)
        } else if tensor.is_contiguous() {
            let start = whole.start + tensor.offset * width;
            Place::File(start..start + tensor.count * width)
        } else {
            let needed = tensor.count * width;
            *budget = budget.checked_sub(needed).ok_or(Fault::Tensor {
                key: shortened(self.machine.text(storage.key)),
                why: "views of it repeat its values more often than the file is long",
            })?;
            Place::Copied(gather(&bytes[whole], tensor, width))
        };
        Ok(Entry {
            dtype: storage.dtype,
            shape: tensor.shape.clone(),
            place,
        })
    }
}

/// Values of a view, row-major. The view was checked to lie inside `storage`.
fn gather(storage: &[u8], tensor: &Tensor, width: usize) -> Vec<u8> {
    let mut values = Vec::with_capacity(tensor.count * width);
    let mut index = vec![0; tensor.shape.len()];
    let mut at = tensor.offset;
    for _ in 0..tensor.count {
        values.extend_from_slice(&storage[at * width..][..width]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += tensor.strides[axis];
            if index[axis] < tensor.shape[axis] {
                break;
            }
            at -= tensor.shape[axis] * tensor.strides[axis];
            index[axis] = 0;
        }
    }
    values
}

fn object<'m>(machine: &'m Machine<'_>, value: Value) -> Option<&'m Object> {
    match value {
        Value::Object(at) => machine.object(at),
        _ => None,
    }
}

/// A dictionary's entries by key; of equal keys the last one counts. Keys that are neither text nor a whole number are left out:
/// no tensor can be named by them.
///
/// Text is borrowed from the file: however often a long key is recalled, it is not copied.
fn dict<'a>(
    machine: &'a Machine<'_>,
    value: Value,
) -> Result<BTreeMap<Cow<'a, str>, Value>, Fault> {
    let Some(Object::Dict { items, .. }) = object(machine, value) else {
        return Err(Fault::NotDict(match value {
            Value::Object(_) => match object(machine, value) {
                Some(Object::Tensor(_)) => "a single tensor",
                _ => "a list or a tuple",
            },
            _ => "a single value",
        }));
    };
    let named = items.iter().filter_map(|(key, item)| {
        let key = match key {
            Value::Text(span) => Cow::Borrowed(machine.text(*span)),
            Value::Int(number) => Cow::Owned(number.to_string()),
            _ => return None,
        };
        Some((key, *item))
    });
    Ok(named.collect())
}

/// Bytes that a storage declares.
fn storage_bytes(machine: &Machine<'_>, storage: &pickle::Storage) -> Result<u64, Fault> {
    let width = storage.dtype.bitsize() as u64 / 8;
    storage
        .count
        .checked_mul(width)
        .ok_or_else(|| Fault::Tensor {
            key: shortened(machine.text(storage.key)),
            why: "its length overflows",
        })
}

/// Where each storage lies in a file without a zip: after `at`, in the order of `keys`, each after its number of values.
fn storages_in_order(
    bytes: &[u8],
    mut at: usize,
    machine: &Machine<'_>,
    keys: &[&str],
) -> Result<Vec<Range<usize>>, Fault> {
    const COUNT_BYTES: usize = 8;
    const ENDS: Fault = Fault::Truncated("a storage");
    let by_key: BTreeMap<&str, usize> = (machine.storages.iter().enumerate())
        .map(|(i, storage)| (machine.text(storage.key), i))
        .collect();
    let mut places = vec![0..0; machine.storages.len()];
    let mut seen = BTreeSet::new();
    for &key in keys {
        let &i = by_key
            .get(key)
            .filter(|_| seen.insert(key))
            .ok_or(Fault::Malformed("the order of its storages names others"))?;
        let storage = &machine.storages[i];
        let expected = storage_bytes(machine, storage)?;
        let count = bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk::<COUNT_BYTES>());
        let count = u64::from_le_bytes(*count.ok_or(ENDS)?);
        if count != storage.count {
            return Err(Fault::StorageLength {
                key: shortened(key),
                found: count.saturating_mul(storage.dtype.bitsize() as u64 / 8),
                expected,
            });
        }
        let start = at + COUNT_BYTES;
        let len = usize::try_from(expected).map_err(|_| ENDS)?;
        let end = start.checked_add(len).filter(|&end| end <= bytes.len());
        at = end.ok_or(ENDS)?;
        places[i] = start..at;
    }
    match by_key.keys().find(|key| !seen.contains(*key)) {
        Some(missing) => Err(Fault::NoStorage(shortened(missing))),
        None => Ok(places),
    }
}
