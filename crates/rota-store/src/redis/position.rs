//! Where a store is: its last batch, who leads, and which leaderships wrote what it has.

use redis::Value;

use super::{answer, fault::Fault};
use crate::model::{BatchSeq, Epoch, Head};

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
    /// Epoch and holder of the leadership that wrote the last batch, and how many batches came before its first one.
    by: String,
}

/// Batches of one leadership, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) epoch: Epoch,
    /// The random id of the leadership. Empty where a version of Rota wrote the batches that keeps none.
    pub(super) holder: String,
    /// How many batches came before the first one, where that is known.
    pub(super) begin: Option<u64>,
    /// The number of the last one.
    pub(super) last: BatchSeq,
    /// How many batches there were with the last one.
    pub(super) count: u64,
    /// When the last one landed.
    pub(super) at: u64,
}

impl Position {
    /// Takes the answer of `position()` in `common.lua` apart.
    pub(super) fn read(value: Value) -> Result<Self, Fault> {
        let [epoch, seq, sealed, count, at, leader, holder, by] = answer::exactly(value)?;
        Ok(Self {
            head: Head {
                epoch: Epoch(answer::number(epoch)?),
                seq: BatchSeq(answer::number(seq)?),
            },
            sealed: answer::number(sealed)?,
            count: answer::number(count)?,
            at: answer::number(at)?,
            leader: (Epoch(answer::number(leader)?), answer::text(holder)?),
            by: answer::text(by)?,
        })
    }

    /// The same after one more batch, of the leadership that leads.
    pub(super) fn followed_by(self, batch: &Stretch) -> Self {
        let Stretch { epoch, holder, begin, last, count, at } = batch;
        let by = format!("{epoch} {holder} {}", begin.unwrap_or_default());
        let head = Head { epoch: *epoch, seq: *last };
        Self { head, count: *count, at: *at, by, ..self }
    }

    /// The batches of the leadership that wrote the last one.
    pub(super) fn stretch(&self) -> Stretch {
        let mut words = self.by.split(' ');
        let epoch = self.head.epoch.to_string();
        // Other words there are of an earlier leadership, and the last one is of a version that keeps none.
        let words = words.next().filter(|word| *word == epoch).and(Some(words));
        let (holder, begin) = words
            .and_then(|mut words| Some((words.next()?, words.next()?.parse().ok()?)))
            .map_or_else(Default::default, |(holder, begin)| (holder.to_owned(), Some(begin)));
        let Self { head: Head { epoch, seq: last }, count, at, .. } = *self;
        Stretch { epoch, holder, begin, last, count, at }
    }
}

impl Stretch {
    /// Whether both are of one leadership.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && (self.holder == other.holder || self.holder.is_empty() || other.holder.is_empty())
    }

    /// How many batches came before those that are known to be of this leadership.
    pub(super) fn begin(&self) -> u64 {
        self.begin.unwrap_or(self.count.saturating_sub(1))
    }

    /// Takes an entry of `{rota}:past` apart.
    pub(super) fn read(entry: Value) -> Result<Self, Fault> {
        let [id, fields] = answer::exactly(entry)?;
        let id = answer::text(id)?;
        let epoch = id.split('-').next().unwrap_or_default();
        let epoch = Epoch(answer::number(Value::BulkString(epoch.into()))?);
        let mut stretch = Self { epoch, ..Self::default() };
        for (name, value) in answer::pairs(fields)? {
            match name.as_str() {
                "holder" => stretch.holder = answer::text(value)?,
                "begin" => stretch.begin = answer::text(value)?.parse().ok(),
                "seq" => stretch.last = BatchSeq(answer::number(value)?),
                "count" => stretch.count = answer::number(value)?,
                "at" => stretch.at = answer::number(value)?,
                _ => {}
            }
        }
        Ok(stretch)
    }
}

/// What a store has, as `compare.lua` tells it.
pub(super) struct Present {
    /// In the order of their epochs.
    pub(super) stretches: Vec<Stretch>,
    head: Head,
    pub(super) count: u64,
}

/// What is left of batches that were sought.
pub(super) struct Left {
    pub(super) count: u64,
    pub(super) last: BatchSeq,
    pub(super) at: u64,
    /// Whether the store says so. Else it is the most that can be left.
    pub(super) is_sure: bool,
}

impl Present {
    pub(super) fn read(answer: Value) -> Result<Self, Fault> {
        let [position, past] = answer::exactly(answer)?;
        let position = Position::read(position)?;
        let past = answer::list(past)?.into_iter().map(Stretch::read);
        let mut stretches = past.collect::<Result<Vec<_>, _>>()?;
        if position.count > 0 {
            stretches.push(position.stretch());
        }
        Ok(Self { stretches, head: position.head, count: position.count })
    }

    pub(super) fn left_of(&self, sought: &Stretch) -> Left {
        let at = self.stretches.partition_point(|other| other.epoch < sought.epoch);
        let before = at.checked_sub(1).and_then(|at| self.stretches.get(at));
        let nothing = || Left {
            count: sought.begin(),
            last: BatchSeq(0),
            at: before.map_or(0, |before| before.at),
            is_sure: true,
        };
        match self.stretches.get(at) {
            Some(same) if same.is_of(sought) => {
                let (count, last) = (same.count.min(sought.count), same.last.min(sought.last));
                Left { count, last, at: same.at, is_sure: true }
            }
            // Another leadership was given the same epoch, after a loss.
            Some(same) if same.epoch == sought.epoch => nothing(),
            // The epochs of batches grow.
            None => nothing(),
            Some(next) => {
                let is_there_room = next.begin.is_none_or(|begin| {
                    begin > sought.begin() && before.is_none_or(|before| before.count < begin)
                });
                if !is_there_room {
                    return nothing();
                }
                let (count, last) = (self.count.min(sought.count), self.head.seq.min(sought.last));
                Left { count, last, at: next.at, is_sure: false }
            }
        }
    }
}
