//! Metrics of the process from the operating system. Only on Linux.

use crate::snapshot::Snapshot;

/// Adds the metrics of the process.
#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "the exposition format has no other numbers")]
pub(crate) fn collect(snapshot: &mut Snapshot) {
    use procfs::{WithCurrentSystemInfo, process::Process};

    use crate::catalogue as all;

    let Ok(process) = Process::myself() else { return };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        snapshot.put(&all::PROCESS_CPU, (stat.utime + stat.stime) as f64 / ticks);
        snapshot.put(&all::PROCESS_RESIDENT, stat.rss_bytes().get() as f64);
        snapshot.put(&all::PROCESS_VIRTUAL, stat.vsize as f64);
        snapshot.put(&all::PROCESS_THREADS, stat.num_threads as f64);
        if let Ok(booted) = procfs::boot_time_secs() {
            snapshot.put(&all::PROCESS_START, booted as f64 + stat.starttime as f64 / ticks);
        }
    }
    snapshot.put_known(&all::PROCESS_FDS, process.fd_count().ok().map(|count| count as f64));
    if let Ok(limits) = process.limits()
        && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        snapshot.put(&all::PROCESS_FDS_MAX, most as f64);
    }
}

/// Adds nothing on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn collect(_: &mut Snapshot) {}
