//! What a run of faults comes to: which faults struck, and which of the promises held.
//!
//! | promise | what it says | who judges |
//! |---|---|---|
//! | LOST | nothing acknowledged is lost | [`crate::audit`], [`crate::history`], [`crate::users`] |
//! | ONCE | a task is one task, and ends once | the same |
//! | FENCE | a write is the leader's, a lease one worker's, an end the valid attempt's | the same |
//! | LIVE | work goes on soon after a fault is healed | [`crate::audit::alive`] |
//! | TOLD | what Redis lost of what it had acknowledged is told with its number | [`crate::losses`] |
//!
//! Where Redis acknowledges before its replicas have a change, a failover loses some. Then what may come of that, and
//! only that, breaks no other promise.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    audit::{self, Probe, alive},
    history,
    losses::Losses,
    users::{Complaint, Experience},
};

/// What must hold whatever goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing acknowledged is lost.
    Lost,
    /// A task is one task, and ends once.
    Once,
    /// A write is the leader's, a lease one worker's, an end the valid attempt's.
    Fence,
    /// Work goes on soon after a fault is healed.
    Live,
    /// What was lost is told.
    Told,
}

const PROMISES: [Promise; 5] =
    [Promise::Lost, Promise::Once, Promise::Fence, Promise::Live, Promise::Told];

/// At most so many breaches of a promise are shown.
const SHOWN: usize = 5;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    probes: Vec<Probe>,
    done: audit::Verdict,
    written: history::Verdict,
    /// Tasks that users cancelled, retried and read.
    changed: usize,
    losses: Losses,
    /// What was found and is excused by what was lost.
    excused: usize,
    breaches: BTreeMap<Promise, Vec<String>>,
}

impl Report {
    /// Of what was done, what was written, and whether work went on within that time.
    #[must_use]
    pub fn new(
        probes: Vec<Probe>,
        within: Duration,
        done: audit::Verdict,
        written: history::Verdict,
        experience: &Experience,
        losses: Losses,
    ) -> Self {
        let late = alive(&probes, within);
        let seen = done.faults.iter().chain(&late).filter(|fault| !losses.excuse(fault));
        let seen = seen.map(|fault| (of_done(fault), format!("{fault:?}")));
        let read = written.faults.iter().filter(|fault| !losses.excuse_written(fault));
        let read = read.map(|fault| (of_written(fault), format!("{fault:?}")));
        let mut breaches: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let told = experience.complaints.iter();
        let told = told.filter(|(complaint, at)| !losses.excuse_complaint(complaint, *at));
        let told = told.map(|(complaint, _)| (of_told(complaint), format!("{complaint:?}")));
        let untold = losses.untold.iter();
        let untold =
            untold.map(|task| (Promise::Told, format!("{task} was lost, and nobody knows")));
        for (promise, breach) in seen.chain(read).chain(told).chain(untold) {
            breaches.entry(promise).or_default().push(breach);
        }
        let excused = done.faults.iter().filter(|fault| losses.excuse(fault)).count();
        let changed = experience.book.len();
        Self { probes, done, written, changed, losses, excused, breaches }
    }

    /// The promises that were broken.
    #[must_use]
    pub fn broken(&self) -> Vec<Promise> {
        self.breaches.keys().copied().collect()
    }

    fn evidence(&self, promise: Promise) -> String {
        let (done, written) = (&self.done, &self.written);
        match promise {
            Promise::Lost => format!(
                "{} tasks were acknowledged, and {} more that users cancelled or retried",
                done.tasks, self.changed
            ),
            Promise::Once => format!(
                "{} tasks ended; {} attempts lost their worker; the handler ran {} times, {} of them \
                 under a lost lease",
                written.ended, done.lost, done.effects, done.duplicates
            ),
            Promise::Fence => format!(
                "{} batches under {} leaderships gave {} leases",
                written.batches, written.leaderships, written.leases
            ),
            Promise::Live => {
                let slowest = self.probes.iter().filter_map(|probe| probe.done_after).max();
                format!(
                    "{} faults struck; alive again after {:.1?} at most",
                    self.probes.len(),
                    slowest.unwrap_or_default()
                )
            }
            Promise::Told => format!(
                "{} batches were lost in {} failovers and crashes; {} tasks are missing or were repeated for that",
                self.losses.batches, self.losses.times, self.excused
            ),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>6}  slowest to be alive again", "fault", "struck")?;
        let mut faults: BTreeMap<&str, Vec<Option<Duration>>> = BTreeMap::new();
        for probe in &self.probes {
            faults.entry(&probe.after).or_default().push(probe.done_after);
        }
        for (fault, times) in faults {
            let slowest = if times.contains(&None) {
                "never".to_owned()
            } else {
                format!("{:.2} s", times.iter().flatten().max().map_or(0.0, Duration::as_secs_f64))
            };
            writeln!(f, "{fault:<24} {:>6}  {slowest}", times.len())?;
        }
        for promise in PROMISES {
            let breaches = self.breaches.get(&promise).map_or(&[][..], Vec::as_slice);
            let held = if breaches.is_empty() { "held" } else { "BROKEN" };
            let name = format!("{promise:?}").to_uppercase();
            writeln!(f, "{name:<6} {held:<7} {}", self.evidence(promise))?;
            for breach in breaches.iter().take(SHOWN) {
                writeln!(f, "       {breach}")?;
            }
            if breaches.len() > SHOWN {
                writeln!(f, "       and {} more", breaches.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

fn of_done(fault: &audit::Fault) -> Promise {
    use audit::Fault;
    match fault {
        Fault::Missing(_)
        | Fault::NotCompleted(..)
        | Fault::NoEffect(_)
        | Fault::Failed(_)
        | Fault::LostByNobody(..) => Promise::Lost,
        Fault::KeyTwice(_)
        | Fault::TaskTwice(_)
        | Fault::Unasked(_)
        | Fault::Ends(_)
        | Fault::Mixed(_) => Promise::Once,
        Fault::Disorder(_) | Fault::EffectTwice(..) | Fault::Stray(_) => Promise::Fence,
        Fault::NotAlive(_) => Promise::Live,
    }
}

fn of_written(fault: &history::Fault) -> Promise {
    use history::Fault;
    match fault {
        Fault::Vanished(..) => Promise::Lost,
        Fault::EndsTwice(..) | Fault::Told(_) => Promise::Once,
        Fault::Recurs(_)
        | Fault::Unfenced(_)
        | Fault::OldEpoch(_)
        | Fault::Gap(_)
        | Fault::Unsealed(_)
        | Fault::Overlap(..)
        | Fault::Shrinks(..)
        | Fault::Early(..)
        | Fault::OldAttempt(..) => Promise::Fence,
    }
}

fn of_told(complaint: &Complaint) -> Promise {
    match complaint {
        Complaint::NotFound(_) => Promise::Lost,
        Complaint::Changed(..) | Complaint::EndedAs(..) => Promise::Once,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(4);

    fn report(done: &[audit::Fault], written: &[history::Fault], took: Option<u64>) -> Report {
        let probe = |after: &str, took| Probe { after: after.into(), done_after: took };
        let probes = vec![
            probe("KillLeader", Some(Duration::from_secs(1))),
            probe("KillLeader", took.map(Duration::from_secs)),
        ];
        let done = audit::Verdict { faults: done.to_vec(), tasks: 7, ..Default::default() };
        let written = history::Verdict { faults: written.to_vec(), ..Default::default() };
        Report::new(probes, WITHIN, done, written, &Experience::default(), Losses::default())
    }

    #[test]
    fn a_right_run_breaks_nothing_and_says_what_struck() {
        let right = report(&[], &[], Some(2));
        assert_eq!(right.broken(), []);
        let text = right.to_string();
        for line in ["KillLeader                    2  2.00 s", "LOST   held    7 tasks"] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("BROKEN"), "{text}");
    }

    #[test]
    fn each_promise_is_broken_by_what_breaks_it() {
        let lost = report(&[audit::Fault::Missing("a".into())], &[], Some(2));
        assert_eq!(lost.broken(), [Promise::Lost]);
        let twice = report(&[audit::Fault::Ends("a".into())], &[], Some(2));
        assert_eq!(twice.broken(), [Promise::Once]);
        let fence = report(&[], &[history::Fault::OldEpoch(7)], Some(2));
        assert_eq!(fence.broken(), [Promise::Fence]);
        assert!(fence.to_string().contains("FENCE  BROKEN"), "{fence}");
        for took in [Some(5), None] {
            assert_eq!(report(&[], &[], took).broken(), [Promise::Live]);
        }
        assert!(report(&[], &[], None).to_string().contains("never"));
    }

    #[test]
    fn a_flood_of_breaches_is_cut_short() {
        let gaps: Vec<_> = (0..40).map(history::Fault::Gap).collect();
        let text = report(&[], &gaps, Some(1)).to_string();
        assert!(text.contains("Gap(4)") && !text.contains("Gap(5)"), "{text}");
        assert!(text.contains("and 35 more"), "{text}");
    }
}
