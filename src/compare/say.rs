//! Counts and bytes as people read them.

/// `1 frame`, `2 frames`.
pub(super) fn n(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Bytes in MiB or GiB.
pub fn mib(bytes: u64) -> String {
    const MIB: f64 = (1 << 20) as f64;
    match bytes as f64 / MIB {
        mib if 1024.0 <= mib => format!("{:.2} GiB", mib / 1024.0),
        mib if 100.0 <= mib => format!("{mib:.0} MiB"),
        mib => format!("{mib:.1} MiB"),
    }
}
