//! Whether the store still has the batches that this process has seen in it.
//!
//! A replica that is promoted behind its master, a server that lost its file and one that cut off a torn file come back
//! with an older head. Every process remembers the newest batch that it has seen, and each new connection looks for it. A
//! batch that is missing ends the leadership of this process, and is told to operators with the number of batches.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use redis::Value;

use super::{
    answer,
    fault::{Fault, unexpected},
};
use crate::{
    model::{BatchSeq, Epoch, Head},
    store::LostBatches,
};

/// The head as a script finds it, and who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) head: Head,
    /// How often the head was sealed.
    pub(super) sealed: u64,
    /// How many batches ever landed.
    pub(super) count: u64,
    /// When the last one did, in milliseconds since 1970 by the server's clock.
    pub(super) at: u64,
    /// Epoch and holder of the leadership.
    pub(super) leader: (Epoch, String),
}

impl Position {
    /// Takes the answer of `position()` in `common.lua` apart.
    pub(super) fn read(value: Value) -> Result<Self, Fault> {
        let [epoch, seq, sealed, count, at, leader, holder] = answer::exactly(value)?;
        Ok(Self {
            head: Head {
                epoch: Epoch(answer::number(epoch)?),
                seq: BatchSeq(answer::number(seq)?),
            },
            sealed: answer::number(sealed)?,
            count: answer::number(count)?,
            at: answer::number(at)?,
            leader: (Epoch(answer::number(leader)?), answer::text(holder)?),
        })
    }
}

/// A batch that landed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Landed {
    pub(super) head: Head,
    pub(super) count: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest batch that was seen.
    newest: Landed,
    /// The newest number ever seen, of batches that are missing too.
    highest: BatchSeq,
    lost: Option<LostBatches>,
}

impl Lineage {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a batch that the store has.
    pub(super) fn saw(&self, landed: Landed) {
        let mut state = self.state();
        state.highest = state.highest.max(landed.head.seq);
        if landed.count > state.newest.count {
            state.newest = landed;
        }
    }

    /// The newest batch that was seen.
    pub(super) fn newest(&self) -> Landed {
        self.state().newest
    }

    /// The newest number that was ever seen: none up to it may be given to another batch.
    pub(super) fn highest(&self) -> BatchSeq {
        self.state().highest
    }

    pub(super) fn lost(&self) -> Option<LostBatches> {
        self.state().lost.clone()
    }

    /// Takes note of a failover before which this process saw nothing of the store.
    pub(super) fn may_have_lost(&self, at: u64) {
        let unknown = LostBatches {
            batches: None,
            maybe_more: true,
            since: moment(at),
            noticed: SystemTime::now(),
        };
        self.state().lost.get_or_insert(unknown).maybe_more = true;
    }

    /// Judges the answer of `compare.lua` to the question for `sought`. Returns what is newly found to be missing.
    pub(super) fn compare(
        &self,
        sought: Landed,
        answer: Value,
    ) -> Result<Option<LostBatches>, Fault> {
        let [position, same, before, at] = answer::exactly(answer)?;
        let position = Position::read(position)?;
        let same = answer::text(same)?;
        let before = answer::text(before)?;
        let is_there = position.head == sought.head
            || (!same.is_empty() && same == sought.head.epoch.to_string());
        let left = if is_there {
            None
        } else if position.head.seq < sought.head.seq {
            Some((position.count, position.at))
        } else if before.is_empty() {
            // The log begins later: others have written much meanwhile.
            None
        } else {
            let before = before.parse().map_err(|_| unexpected(before))?;
            Some((before, answer::number(at)?))
        };
        let here = Landed { head: position.head, count: position.count };
        let mut state = self.state();
        // Another connection may have found it before.
        let Some((left, at)) = left.filter(|_| state.newest == sought) else {
            drop(state);
            self.saw(here);
            return Ok(None);
        };
        let missing = LostBatches {
            batches: Some(sought.count.saturating_sub(left)),
            maybe_more: false,
            since: moment(at),
            noticed: SystemTime::now(),
        };
        state.newest = here;
        let before = state.lost.take();
        state.lost = Some(LostBatches {
            batches: before
                .iter()
                .chain([&missing])
                .filter_map(|lost| lost.batches)
                .reduce(|a, b| a + b),
            maybe_more: before.as_ref().is_some_and(|lost| lost.maybe_more),
            ..missing.clone()
        });
        Ok(Some(missing))
    }
}

/// That many milliseconds after 1970; 0 for no time.
fn moment(at: u64) -> Option<SystemTime> {
    (at > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(epoch: u64, seq: u64, count: u64) -> Landed {
        Landed { head: Head { epoch: Epoch(epoch), seq: BatchSeq(seq) }, count }
    }

    /// An answer of the script: the head, the epoch of the batch that was sought, and the batch before it.
    fn told(head: Landed, same: &str, before: &str) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let number = |number: u64| text(&number.to_string());
        let Landed { head, count } = head;
        let position = Value::Array(vec![
            number(head.epoch.0),
            number(head.seq.0),
            number(0),
            number(count),
            number(7),
            number(0),
            text(""),
        ]);
        Value::Array(vec![position, text(same), text(before), number(5)])
    }

    fn missing(sought: Landed, answer: Value) -> Option<u64> {
        let lineage = Lineage::default();
        lineage.saw(sought);
        let lost =
            lineage.compare(sought, answer).expect("it is read").and_then(|lost| lost.batches);
        assert_eq!(lineage.lost().and_then(|lost| lost.batches), lost);
        assert!(lineage.highest() >= sought.head.seq);
        lost
    }

    #[test]
    fn missing_batches_are_counted() {
        let sought = landed(3, 100, 90);
        let later = landed(4, 1 << 32, 84);
        assert_eq!(missing(sought, told(sought, "3", "89")), None);
        assert_eq!(missing(sought, told(landed(4, 300, 120), "3", "89")), None);
        assert_eq!(missing(sought, told(landed(3, 95, 85), "", "84")), Some(5));
        assert_eq!(missing(sought, told(landed(0, 0, 0), "", "")), Some(90));
        // Another leader has written since.
        assert_eq!(missing(sought, told(later, "", "83")), Some(7));
        // Another batch has this number.
        assert_eq!(missing(sought, told(landed(4, 101, 91), "4", "88")), Some(2));
        // The log does not reach back so far.
        assert_eq!(missing(sought, told(landed(4, 900, 720), "", "")), None);
    }

    #[test]
    fn a_loss_is_found_once_and_losses_add_up() {
        let lineage = Lineage::default();
        let sought = landed(3, 100, 90);
        lineage.saw(sought);
        let answer = || told(landed(3, 95, 85), "", "84");
        assert!(lineage.compare(sought, answer()).expect("it is read").is_some());
        assert!(lineage.compare(sought, answer()).expect("it is read").is_none());
        assert_eq!(lineage.newest(), landed(3, 95, 85));
        assert!(lineage.compare(lineage.newest(), told(landed(3, 94, 84), "", "83")).is_ok());
        assert_eq!(lineage.lost().and_then(|lost| lost.batches), Some(6));
        assert_eq!(lineage.highest(), BatchSeq(100));
    }

    #[test]
    fn a_number_is_a_minimum_where_an_unknown_loss_came_before() {
        let lineage = Lineage::default();
        lineage.may_have_lost(9);
        let lost = lineage.lost().expect("a loss");
        assert_eq!((lost.batches, lost.maybe_more), (None, true));
        let sought = landed(3, 100, 90);
        lineage.saw(sought);
        let answer = told(landed(3, 95, 85), "", "84");
        let found = lineage.compare(sought, answer).expect("it is read").expect("a loss");
        assert_eq!((found.batches, found.maybe_more), (Some(5), false));
        let lost = lineage.lost().expect("a loss");
        assert_eq!((lost.batches, lost.maybe_more), (Some(5), true));
    }
}
