//! How much memory the process ever asked for.

use std::process::Command;

/// Set in a process that runs one test alone.
const ALONE: &str = "LONGTAKE_TEST_ALONE";

/// Runs `work` in a process where no other test runs, since the address space is counted for the process as a whole. `name` is the
/// test that calls.
pub fn alone(name: &str, work: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        work();
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--test-threads=1", "--nocapture"]);
    let out = command.env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let ran_one = text.contains("1 passed");
    assert!(
        out.status.success() && ran_one,
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Peak of the address space in bytes; 0 where the system does not tell. Memory that is asked for and never touched counts.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
