//! How full etcd is, by what all of its members say of their databases.
//!
//! etcd takes no more writes as soon as *any* member finds its file at the quota. The files of the
//! members differ by megabytes, and pages that are free within a file do not count as room. So the
//! largest one counts, and there is pressure while there is still room for what can be written until
//! the next look.

use std::time::Duration;

use tokio::time::Instant;

use super::{layout, wire::StatusResponse};

const MIB: u64 = 1024 * 1024;

/// The room that a file is to have, as a part of the quota within bounds: members write what they
/// got in steps, and tell of it later.
const MARGIN_PART: u64 = 8;
const MARGIN_MIN: u64 = 32 * MIB;
const MARGIN_MAX: u64 = 128 * MIB;

/// The room for a file that does not grow, and has much room within that is used first. Without this,
/// a file that was once large would end all new work until somebody defragments it.
const MARGIN_AT_REST: u64 = 16 * MIB;

/// Bytes per second below which a file counts as one that does not grow.
const AT_REST: u64 = MIB / 4;

/// So much room within a file is much, as a part of the quota.
const FREE_PART: u64 = 4;

/// However fast a file grows, the margin is no larger part of the quota than this.
const MARGIN_PART_MAX: u64 = 4;

/// What is written in this time has to fit into the margin as well: a look every second, one of which
/// comes too late.
const AHEAD: u64 = 2;

/// For so long it counts how fast a file once grew.
const REMEMBERED: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Usage {
    members: Vec<Option<Database>>,
}

/// The database of one member, as it last told.
#[derive(Debug, Clone, Copy)]
struct Database {
    told: Instant,
    file: u64,
    in_use: u64,
    /// etcd tells since 3.6.
    quota: Option<u64>,
    /// Bytes per second by which the file grows, or lately did.
    growth: u64,
}

/// How full etcd is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fullness {
    /// Bytes that count towards the quota.
    pub(super) used: u64,
    pub(super) quota: u64,
    /// Whether it is so near to the quota that it should get no new work.
    pub(super) is_near: bool,
}

impl Usage {
    /// Of so many members that have told nothing yet.
    pub(super) fn new(members: usize) -> Self {
        Self { members: vec![None; members] }
    }

    /// Notes what a member says of itself.
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

    /// How full the fullest member is; a member that does not answer counts as it was. `None` while
    /// nothing is known. The quota is `said` where etcd does not tell.
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
    /// How fast it grows, if the file is of that size now.
    fn growth_to(&self, file: u64, now: Instant) -> u64 {
        let elapsed = now.duration_since(self.told);
        let grown = file.saturating_sub(self.file);
        // A step within a moment says nothing of the second.
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
