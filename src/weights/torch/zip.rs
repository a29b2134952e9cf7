//! The directory of a stored zip, with its 64-bit forms: where each entry's bytes lie in the file. Nothing is copied.
//!
//! Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (end records),
//! 4.5.3 (64-bit sizes).

use std::collections::BTreeMap;
use std::ops::Range;

use super::fault::{Fault, shortened};

/// Bytes of the record that ends a zip, without its comment.
const END_BYTES: usize = 22;
/// Bytes of the record that points at the 64-bit end record, right before the end record.
const LOCATOR_BYTES: usize = 20;
/// Bytes of the 64-bit end record that are read.
const END64_BYTES: usize = 56;
/// Bytes of a directory entry before its name.
const ENTRY_BYTES: usize = 46;
/// Bytes of a local header before its name.
const LOCAL_BYTES: usize = 30;
/// Bytes of a file that are searched for its end record: that record and the longest comment.
const SEARCHED: usize = END_BYTES + u16::MAX as usize;

/// One entry of a zip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its bytes in the file, as they were saved.
    pub(super) range: Range<usize>,
    /// CRC-32 of its contents; zero where the writer left it out.
    pub(super) crc: u32,
    /// Whether the bytes are compressed, and so are not the contents.
    pub(super) is_compressed: bool,
}

/// Entries by name.
pub(super) type Directory = BTreeMap<String, Entry>;

/// Reads the directory of `bytes`, a whole file.
///
/// # Errors
/// Whatever contradicts itself; never panics, on any bytes.
pub(super) fn directory(bytes: &[u8]) -> Result<Directory, Fault> {
    let end = end_record(bytes).ok_or(Fault::NoDirectory)?;
    let (count, range) = place(bytes, end)?;
    let mut at = range.start;
    let mut entries = Directory::new();
    for _ in 0..count {
        let record = Record(bytes.get(at..range.end).unwrap_or_default());
        let (name, entry, len) = entry(bytes, record, range.start)?;
        if entries.insert(name, entry).is_some() {
            return Err(Fault::Zip("two entries have one name"));
        }
        at += len;
    }
    Ok(entries)
}

/// A part of the file that is read by offset.
#[derive(Clone, Copy)]
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn u16(self, at: usize) -> Option<u16> {
        let bytes = self.0.get(at..)?.first_chunk::<2>()?;
        Some(u16::from_le_bytes(*bytes))
    }

    fn u32(self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*bytes))
    }

    fn part(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }
}

/// Offset of the end record: the last signature whose comment ends with the file.
fn end_record(bytes: &[u8]) -> Option<usize> {
    let first = bytes.len().saturating_sub(SEARCHED);
    let last = bytes.len().checked_sub(END_BYTES)?;
    (first..=last).rev().find(|&at| {
        let record = Record(&bytes[at..]);
        record.0.starts_with(b"PK\x05\x06")
            && record
                .u16(20)
                .is_some_and(|comment| at + END_BYTES + usize::from(comment) == bytes.len())
    })
}

/// Number of entries, and where the directory lies.
fn place(bytes: &[u8], end: usize) -> Result<(u64, Range<usize>), Fault> {
    const FAULT: Fault = Fault::Zip("its end record points outside the file");
    let record = Record(&bytes[end..]);
    let read = || {
        Some((
            [record.u16(4)?, record.u16(6)?],
            record.u16(8)?,
            record.u16(10)?,
            record.u32(12)?,
            record.u32(16)?,
        ))
    };
    let (disks, here, count, len, start) = read().ok_or(FAULT)?;
    let needs_64 = here == u16::MAX || count == u16::MAX || len == u32::MAX || start == u32::MAX;
    let locator = end
        .checked_sub(LOCATOR_BYTES)
        .map(|at| Record(&bytes[at..end]))
        .filter(|record| record.0.starts_with(b"PK\x06\x07"));
    let (count, len, start, limit) = match locator {
        Some(locator) => {
            let at = locator.u64(8).and_then(|at| usize::try_from(at).ok());
            let at = at.filter(|&at| at.saturating_add(END64_BYTES + LOCATOR_BYTES) <= end);
            let at = at.ok_or(FAULT)?;
            let record = Record(&bytes[at..end]);
            if !record.0.starts_with(b"PK\x06\x06") {
                return Err(FAULT);
            }
            let read = || Some((record.u64(32)?, record.u64(40)?, record.u64(48)?));
            let (count, len, start) = read().ok_or(FAULT)?;
            (count, len, start, at)
        }
        None if needs_64 => return Err(Fault::Zip("its 64-bit end record is missing")),
        None => (u64::from(count), u64::from(len), u64::from(start), end),
    };
    if disks.iter().any(|&disk| disk != 0 && disk != u16::MAX) {
        return Err(Fault::Zip("it is one of several volumes"));
    }
    let range = range(start, len)
        .filter(|range| range.end <= limit)
        .ok_or(FAULT)?;
    // An entry takes at least its fixed part, so the count cannot make anything grow beyond the file.
    if ((range.len() / ENTRY_BYTES) as u64) < count {
        return Err(Fault::Zip("its directory is too short for its entries"));
    }
    Ok((count, range))
}

/// `start..start + len`, where the machine can address it.
fn range(start: u64, len: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start).ok()?;
    let len = usize::try_from(len).ok()?;
    Some(start..start.checked_add(len)?)
}

/// One directory entry: its name, what it is, and the bytes that it takes in the directory, which starts at `limit`.
fn entry(bytes: &[u8], record: Record<'_>, limit: usize) -> Result<(String, Entry, usize), Fault> {
    const SHORT: Fault = Fault::Zip("its directory ends in the middle of an entry");
    if !record.0.starts_with(b"PK\x01\x02") {
        return Err(Fault::Zip("its directory holds something else"));
    }
    let read = || {
        Some((
            [record.u16(8)?, record.u16(10)?],
            record.u32(16)?,
            [record.u32(20)?, record.u32(24)?, record.u32(42)?],
            [record.u16(28)?, record.u16(30)?, record.u16(32)?],
        ))
    };
    let ([flags, method], crc, narrow, lens) = read().ok_or(SHORT)?;
    let [name_len, extra_len, comment_len] = lens.map(usize::from);
    let stored_name = record.part(ENTRY_BYTES, name_len).ok_or(SHORT)?;
    let extra = record
        .part(ENTRY_BYTES + name_len, extra_len)
        .ok_or(SHORT)?;
    let total = ENTRY_BYTES + name_len + extra_len + comment_len;
    record.part(0, total).ok_or(SHORT)?;
    let name = str::from_utf8(stored_name)
        .map_err(|_| Fault::Zip("a name in it is not UTF-8"))?
        .to_owned();
    let [packed, unpacked, local] =
        wide(narrow, extra).ok_or(Fault::Zip("its 64-bit sizes are missing"))?;
    if flags & 1 != 0 {
        return Err(Fault::Zip("it is encrypted"));
    }
    let is_compressed = method != 0;
    if !is_compressed && packed != unpacked {
        return Err(Fault::Zip("an entry has two sizes"));
    }
    let range = data(bytes, local, packed, stored_name)
        .filter(|range| range.end <= limit)
        .ok_or_else(|| {
            log::debug!("entry {:?} of {packed} bytes at {local}", shortened(&name));
            Fault::Zip("an entry lies outside the file")
        })?;
    let entry = Entry {
        range,
        crc,
        is_compressed,
    };
    Ok((name, entry, total))
}

/// Packed size, size and offset of an entry: those that do not fit 32 bits stand in `extra`, in this order.
fn wide(narrow: [u32; 3], extra: &[u8]) -> Option<[u64; 3]> {
    // In the extra field the unpacked size comes first.
    let [packed, unpacked, local] = narrow;
    let mut values = [unpacked, packed, local].map(u64::from);
    let is_wide = |value: &u64| *value == u64::from(u32::MAX);
    if values.iter().any(is_wide) {
        let mut field = wide_field(Record(extra))?;
        for value in values.iter_mut().filter(|value| is_wide(value)) {
            *value = Record(field).u64(0)?;
            field = &field[8..];
        }
    }
    let [unpacked, packed, local] = values;
    Some([packed, unpacked, local])
}

/// The contents of the extra field with 64-bit sizes.
fn wide_field(extra: Record<'_>) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        let (id, len) = (extra.u16(at)?, usize::from(extra.u16(at + 2)?));
        if id == 1 {
            return extra.part(at + 4, len);
        }
        at += 4 + len;
    }
}

/// Where an entry's bytes lie. The local header has a name and an extra field of its own lengths; the latter pads the data.
fn data(bytes: &[u8], local: u64, len: u64, name: &[u8]) -> Option<Range<usize>> {
    let local = usize::try_from(local).ok()?;
    let header = Record(bytes.get(local..)?);
    if !header.0.starts_with(b"PK\x03\x04") {
        return None;
    }
    let (name_len, extra_len) = (header.u16(26)?, header.u16(28)?);
    if header.part(LOCAL_BYTES, usize::from(name_len))? != name {
        return None;
    }
    let start = local
        .checked_add(LOCAL_BYTES)?
        .checked_add(usize::from(name_len) + usize::from(extra_len))?;
    range(start as u64, len).filter(|range| range.end <= bytes.len())
}

/// CRC-32 as zips have it. Bit by bit: only pickles of some hundred KiB are ever summed.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_zips() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn an_empty_zip_has_no_entries() {
        let mut end = b"PK\x05\x06".to_vec();
        end.extend([0; 18]);
        assert_eq!(directory(&end), Ok(Directory::new()));
        assert_eq!(directory(&end[..21]), Err(Fault::NoDirectory));
        // A comment is skipped, also one that looks like an end itself.
        end[20] = 22;
        let twice = [end.as_slice(), &[0; 22]].concat();
        assert_eq!(directory(&twice), Ok(Directory::new()));
        // More entries than the directory has room for.
        end[20] = 0;
        end[8] = 1;
        end[10] = 1;
        assert!(matches!(directory(&end), Err(Fault::Zip(_))));
    }
}
