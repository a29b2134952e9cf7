//! Numbers as people read them, always with their unit. Unknown is a dash, never 0.

/// What is not known.
pub const UNKNOWN: &str = "–";

const KIB: f64 = 1024.0;
const MIB: f64 = KIB * KIB;
const GIB: f64 = MIB * KIB;

/// `34.2 MiB`, `5.71 GiB`, `612.0 KiB`; nothing is `0 B`.
pub fn bytes(n: u64) -> String {
    match n as f64 {
        0.0 => "0 B".to_owned(),
        n if n < MIB => format!("{:.1} KiB", n / KIB),
        n if n < 1000.0 * MIB => format!("{:.1} MiB", n / MIB),
        n => format!("{:.2} GiB", n / GIB),
    }
}

/// MiB alone, for tables that say the unit once.
pub fn mib(n: u64) -> String {
    format!("{:.1}", n as f64 / MIB)
}

/// `26 424 115 B`: every byte, in groups of three.
pub fn exact(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(d);
    }
    out + " B"
}

/// `8.7 fps`; slow ones as `14.2 s/frame`.
pub fn rate(per_sec: f64) -> String {
    match per_sec {
        r if !r.is_finite() || r <= 0.0 => UNKNOWN.to_owned(),
        r if r < 0.1 => format!("{:.1} s/frame", 1.0 / r),
        r => format!("{r:.1} fps"),
    }
}

/// `460 ms`, `3.4 ms`, `12.4 s`.
pub fn secs(secs: f64) -> String {
    match 1e3 * secs {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{secs:.1} s"),
    }
}

/// `1:46.9`, `1:02:46.9`.
pub fn clock(secs: f64) -> String {
    // To a tenth first, so that 59.96 is a minute.
    let tenths = (secs.max(0.0) * 10.0).round() as u64;
    let (h, m, s) = (tenths / 36_000, tenths / 600 % 60, tenths % 600);
    let rest = format!("{:02}.{}", s / 10, s % 10);
    match h {
        0 => format!("{m}:{rest}"),
        _ => format!("{h}:{m:02}:{rest}"),
    }
}

/// `5.29 ×`; nothing to compare is a dash.
pub fn ratio(r: f64) -> String {
    match r.is_finite() && 0.0 < r {
        true => format!("{r:.2} ×"),
        false => UNKNOWN.to_owned(),
    }
}

/// `122 frames`, `1 frame`.
pub fn n(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_unit_and_few_digits() {
        assert_eq!(bytes(35_861_299), "34.2 MiB");
        assert_eq!(bytes(612 << 10), "612.0 KiB");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(6_131_066_257), "5.71 GiB");
        assert_eq!(exact(26_424_115), "26 424 115 B");
        assert_eq!(exact(0), "0 B");
        assert_eq!(rate(8.71), "8.7 fps");
        assert_eq!(rate(0.07), "14.3 s/frame");
        assert_eq!(rate(0.0), UNKNOWN);
        assert_eq!(
            (secs(0.0034), secs(0.46), secs(12.4)),
            ("3.4 ms".into(), "460 ms".into(), "12.4 s".into())
        );
        assert_eq!(clock(106.94), "1:46.9");
        assert_eq!(clock(59.96), "1:00.0");
        assert_eq!(clock(3766.9), "1:02:46.9");
        assert_eq!((ratio(5.291), ratio(0.0)), ("5.29 ×".into(), "–".into()));
        assert_eq!(
            (n(1, "frame"), n(2, "frame")),
            ("1 frame".into(), "2 frames".into())
        );
    }
}
