//! The scripts that run within Redis. Each call is one of them, so that it is atomic.

use redis::Cmd;

/// One script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Commit,
    Seal,
    Look,
    Compare,
    Take,
    Stay,
    Leave,
    Observe,
    Members,
    Get,
    SnapshotOpen,
    SnapshotKeep,
    SnapshotGet,
    SnapshotScan,
    Probe,
}

/// Put in front of each.
const COMMON: &str = include_str!("scripts/common.lua");

/// Without a flag, Redis refuses to begin a script when its memory is used up, rather than stop it in its middle.
const WRITES: &str = "#!lua";
const READS: &str = "#!lua flags=no-writes";
/// Must work when the memory is used up: it frees some, or writes a few bytes that let nodes go on.
const URGENT: &str = "#!lua flags=allow-oom";

impl Script {
    /// All of them, in the order of their declaration.
    pub(super) const ALL: [Self; 15] = [
        Self::Commit,
        Self::Seal,
        Self::Look,
        Self::Compare,
        Self::Take,
        Self::Stay,
        Self::Leave,
        Self::Observe,
        Self::Members,
        Self::Get,
        Self::SnapshotOpen,
        Self::SnapshotKeep,
        Self::SnapshotGet,
        Self::SnapshotScan,
        Self::Probe,
    ];

    pub(super) fn source(self) -> String {
        let (begin, body) = match self {
            Self::Commit => (WRITES, include_str!("scripts/commit.lua")),
            Self::Seal => (URGENT, include_str!("scripts/seal.lua")),
            Self::Look => (READS, include_str!("scripts/look.lua")),
            Self::Compare => (READS, include_str!("scripts/compare.lua")),
            Self::Take => (URGENT, include_str!("scripts/take.lua")),
            Self::Stay => (URGENT, include_str!("scripts/stay.lua")),
            Self::Leave => (URGENT, include_str!("scripts/leave.lua")),
            Self::Observe => (READS, include_str!("scripts/observe.lua")),
            Self::Members => (READS, include_str!("scripts/members.lua")),
            Self::Get => (READS, include_str!("scripts/get.lua")),
            Self::SnapshotOpen => (URGENT, include_str!("scripts/snapshot_open.lua")),
            Self::SnapshotKeep => (URGENT, include_str!("scripts/snapshot_keep.lua")),
            Self::SnapshotGet => (URGENT, include_str!("scripts/snapshot_get.lua")),
            Self::SnapshotScan => (URGENT, include_str!("scripts/snapshot_scan.lua")),
            Self::Probe => (URGENT, include_str!("scripts/probe.lua")),
        };
        format!("{begin}\n{COMMON}\n{body}")
    }

    /// A call of it by its hash, for arguments to be added to. `prefix` is what all keys begin with.
    pub(super) fn call(self, hash: &str, prefix: &str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        // One key, so that a cluster of Redis knows which of its members is meant.
        call.arg(hash).arg(1).arg([prefix, "head"].concat()).arg(prefix);
        call
    }
}
