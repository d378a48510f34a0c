//! What a node's process takes, as the kernel tells it; zeros elsewhere than on Linux.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Memory {
    /// All that is resident, the program's own pages included, which nodes share.
    pub(crate) resident: u64,
    /// What is its alone.
    pub(crate) own: u64,
}

/// The memory of a process.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        number.unwrap_or_default()
    };
    Memory {
        resident: number("VmRSS:"),
        own: number("RssAnon:"),
    }
}

/// CPU time a process has used, in seconds: user and system, in the hundredths that
/// Linux counts in.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces; what follows it does not.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// How busy the machine is: the load of the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|load| load.parse().ok());
    first.unwrap_or_default()
}

/// Bytes of a home by what lies in it. The times of announcements are the crowd's.
pub(crate) fn disk(home: &Path) -> BTreeMap<String, u64> {
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != super::node::TIMES {
            let bytes = size(&entry.path());
            *parts.entry(name).or_default() += bytes;
        }
    }
    parts
}

fn size(path: &Path) -> u64 {
    let Ok(data) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !data.is_dir() {
        return data.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}
