//! The usage of etcd, from the databases of all members.
//!
//! etcd accepts no more writes as soon as *any* member finds its file at the quota. The files of members
//! differ by megabytes, and free pages within a file do not count as space. So the largest file counts, and
//! pressure begins while there is still space for the writes until the next check.

use std::time::Duration;

use tokio::time::Instant;

use super::{layout, wire::StatusResponse};

const MIB: u64 = 1024 * 1024;

/// The margin of a file, as a part of the quota within limits. Members write in steps, and report later.
const MARGIN_PART: u64 = 8;
const MARGIN_MIN: u64 = 32 * MIB;
const MARGIN_MAX: u64 = 128 * MIB;

/// The margin of a file that does not grow and has much free space inside, which is used first. Otherwise a
/// file that was once large would block new tasks until somebody defragments it.
const MARGIN_AT_REST: u64 = 16 * MIB;

/// Growth in bytes per second below which a file counts as not growing.
const AT_REST: u64 = MIB / 4;

/// Free space inside a file that counts as much, as a part of the quota.
const FREE_PART: u64 = 4;

/// Maximum margin, as a part of the quota.
const MARGIN_PART_MAX: u64 = 4;

/// Time whose writes must fit into the margin: checks run every second, and one can be late.
const AHEAD: u64 = 2;

/// Time for which an earlier growth rate counts.
const REMEMBERED: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Usage {
    members: Vec<Option<Database>>,
}

/// The last reported database of a member.
#[derive(Debug, Clone, Copy)]
struct Database {
    told: Instant,
    file: u64,
    in_use: u64,
    /// Reported by etcd 3.6 and later.
    quota: Option<u64>,
    /// Recent growth of the file in bytes per second.
    growth: u64,
}

/// The usage of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fullness {
    /// Bytes that count towards the quota.
    pub(super) used: u64,
    pub(super) quota: u64,
    /// Whether it is so near to the quota that it should get no new tasks.
    pub(super) is_near: bool,
}

impl Usage {
    /// For this number of members, without reports yet.
    pub(super) fn new(members: usize) -> Self {
        Self { members: vec![None; members] }
    }

    /// Records the report of a member.
    pub(super) fn note(&mut self, member: usize, answer: &StatusResponse) {
        self.note_at(member, answer, Instant::now());
    }

    fn note_at(&mut self, member: usize, answer: &StatusResponse, now: Instant) {
        let file = layout::unsigned(answer.db_size);
        let in_use = match layout::unsigned(answer.db_size_in_use) {
            0 => file,
            told => told,
        };
        let quota = Some(layout::unsigned(answer.db_size_quota)).filter(|quota| *quota > 0);
        let growth = self.members[member].map_or(0, |before| before.growth_to(file, now));
        self.members[member] = Some(Database { told: now, file, in_use, quota, growth });
    }

    /// The usage of the fullest member. A member that does not answer keeps its last report. `None` while
    /// nothing is known. `said` is the quota if etcd does not report it.
    pub(super) fn fullness(&self, said: u64) -> Option<Fullness> {
        let of_member = |database: &Database| database.fullness(said);
        let all = self.members.iter().flatten().map(of_member);
        all.reduce(|one, other| Fullness {
            used: one.used.max(other.used),
            quota: one.quota.min(other.quota),
            is_near: one.is_near || other.is_near,
        })
    }
}

impl Database {
    /// The growth rate, if the file has this size now.
    fn growth_to(&self, file: u64, now: Instant) -> u64 {
        let elapsed = now.duration_since(self.told);
        let grown = file.saturating_sub(self.file);
        // A change within a very short time says nothing about the rate per second.
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let rate = grown.saturating_mul(1000) / millis(elapsed.max(Duration::from_secs(1)));
        let left = millis(REMEMBERED.saturating_sub(elapsed));
        rate.max(self.growth.saturating_mul(left) / millis(REMEMBERED))
    }

    fn fullness(&self, said: u64) -> Fullness {
        let quota = self.quota.unwrap_or(said);
        let is_at_rest =
            self.growth < AT_REST && self.file.saturating_sub(self.in_use) >= quota / FREE_PART;
        let margin = if is_at_rest {
            MARGIN_AT_REST
        } else {
            (quota / MARGIN_PART).clamp(MARGIN_MIN, MARGIN_MAX)
        };
        let margin = margin.saturating_add(self.growth.saturating_mul(AHEAD));
        let margin = margin.min(quota / MARGIN_PART_MAX);
        let is_file_near = self.file.saturating_add(margin) >= quota;
        Fullness {
            used: if is_file_near { self.file } else { self.in_use }.min(quota),
            quota,
            is_near: is_file_near || self.in_use >= quota / 5 * 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: u64 = 256 * MIB;

    fn told(file: u64, in_use: u64) -> StatusResponse {
        let bytes = |mib: u64| layout::signed(mib * MIB);
        StatusResponse {
            db_size: bytes(file),
            db_size_in_use: bytes(in_use),
            ..StatusResponse::default()
        }
    }

    fn near(usage: &Usage) -> bool {
        usage.fullness(QUOTA).expect("members have told").is_near
    }

    #[test]
    fn the_fullest_member_counts() {
        let mut usage = Usage::new(3);
        assert_eq!(usage.fullness(QUOTA), None);
        usage.note(0, &told(100, 90));
        usage.note(2, &told(110, 95));
        let fullness = usage.fullness(QUOTA).expect("two have told");
        assert_eq!((fullness.used, fullness.quota), (95 * MIB, QUOTA));
        assert!(!fullness.is_near);
        usage.note(1, &told(241, 90));
        let fullness = usage.fullness(QUOTA).expect("all have told");
        assert!(fullness.is_near && fullness.used == 241 * MIB, "{fullness:?}");
        // A quota that a member tells counts before the one that was said.
        let other = StatusResponse { db_size_quota: 120 * 1024 * 1024, ..told(100, 90) };
        usage.note(1, &other);
        assert_eq!(usage.fullness(QUOTA).map(|fullness| fullness.quota), Some(120 * MIB));
    }

    #[test]
    fn four_fifths_in_use_are_near_whatever_the_file() {
        let mut usage = Usage::new(1);
        usage.note(0, &told(205, 204));
        assert!(!near(&usage));
        usage.note(0, &told(206, 206));
        assert!(near(&usage));
    }

    #[test]
    fn a_file_that_was_once_large_is_not_near_for_ever() {
        let mut usage = Usage::new(1);
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        // Compacted after it had been nearly full.
        usage.note_at(0, &told(230, 60), at(0));
        assert!(!near(&usage));
        // But as soon as it grows again, or has little room within, it is.
        usage.note_at(0, &told(231, 60), at(1));
        assert!(near(&usage));
        usage.note_at(0, &told(231, 60), at(60));
        assert!(!near(&usage));
        usage.note_at(0, &told(231, 180), at(61));
        assert!(near(&usage));
    }

    #[test]
    fn what_grows_fast_is_near_sooner() {
        let mut usage = Usage::new(1);
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        usage.note_at(0, &told(200, 100), at(0));
        assert!(!near(&usage));
        // 15 MiB in a second: two seconds more would leave less than the margin.
        usage.note_at(0, &told(215, 100), at(1));
        assert!(near(&usage));
        // It no longer grows; after a while that counts.
        usage.note_at(0, &told(215, 100), at(35));
        assert!(!near(&usage));
        // Defragmented.
        usage.note_at(0, &told(20, 10), at(36));
        assert!(!near(&usage));
    }
}
