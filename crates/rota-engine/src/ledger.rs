//! Totals of tasks by queue and kind, and the times that tasks waited and ran.
//!
//! The totals are written in the batch of the events that they count, so they are exact: no crash and no
//! change of leader loses or repeats an event. They are shown when the batch is durable.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{Event, FailureReason, Happened, LaneName, Millis};
use rota_metrics::{Count, Counts, Histogram, NodeMetrics, OTHER, Row};
use rota_store::{Snapshot, StoreError};
use rustc_hash::FxHashMap;

use crate::{
    codec::{self, ForeignCounts},
    layout,
    records::{self, Entry, each},
    unreadable::Unreadable,
};

/// Maximum number of lanes in the cache of lookups. When it is full, the cache is cleared.
const LANES_AT_HAND: usize = 10_000;
/// Number of pairs of a queue and a kind to distinguish, for each allowed queue.
const KINDS_A_QUEUE: usize = 5;

/// The index of a total in the list of all.
pub(crate) type TotalIndex = usize;

/// The totals, including those that are not durable yet.
pub(crate) struct Ledger {
    metrics: NodeMetrics,
    totals: Vec<Total>,
    indices: FxHashMap<(Arc<str>, Arc<str>), TotalIndex>,
    at_hand: FxHashMap<Arc<LaneName>, TotalIndex>,
    last: Option<(Arc<LaneName>, TotalIndex)>,
    changed: Vec<TotalIndex>,
}

struct Total {
    row: Row,
    /// Counts that only a newer version knows.
    foreign: ForeignCounts,
    waited: Histogram,
    ran: Histogram,
}

/// The metrics to show when a step is durable.
#[derive(Default)]
pub(crate) struct Landing {
    rows: Vec<(TotalIndex, Row)>,
    pub(crate) events: Vec<Event>,
}

impl Ledger {
    /// The totals in the store.
    pub(crate) async fn load(
        snapshot: &dyn Snapshot,
        metrics: NodeMetrics,
        unreadable: &mut Unreadable,
    ) -> Result<Self, StoreError> {
        let mut ledger = Self {
            metrics,
            totals: Vec::new(),
            indices: FxHashMap::default(),
            at_hand: FxHashMap::default(),
            last: None,
            changed: Vec::new(),
        };
        each(snapshot, |entry: &Entry<records::Total>| {
            let Some(pair) = entry.typed_key() else {
                unreadable.add(layout::TOTAL, &entry.key, &"the key is not a queue and a kind");
                return;
            };
            let found = entry.decode(&pair);
            if let Some(reason) = found.unreadable() {
                unreadable.add(
                    layout::TOTAL,
                    &entry.key,
                    &format!("{reason}; the total starts again from zero"),
                );
            }
            let Some((counts, foreign)) = found.record() else { return };
            let (queue, kind) = pair;
            ledger.metrics.queues().remember(&queue);
            ledger.metrics.kinds().remember(&kind);
            let index = ledger.open(queue, kind);
            let total = &mut ledger.totals[index];
            (total.row.counts, total.foreign) = (counts, foreign);
        })
        .await?;
        Ok(ledger)
    }

    /// Shows all totals, because this node is the leader.
    pub(crate) fn show(&self) {
        self.metrics.clear_totals();
        let rows = self.totals.iter().map(|total| total.row.clone());
        self.metrics.set_totals(rows.enumerate());
    }

    /// The total to which an event adds, if it is counted.
    pub(crate) fn count(&mut self, event: &Event) -> Option<(TotalIndex, Count)> {
        let count = count_of(event.what)?;
        Some((self.index(&event.lane), count))
    }

    /// Adds to a total. Returns the record to write.
    pub(crate) fn add(&mut self, index: TotalIndex, counts: &Counts) -> (Bytes, Bytes) {
        let Total { row, foreign, .. } = &mut self.totals[index];
        for (total, more) in row.counts.iter_mut().zip(counts) {
            *total += more;
        }
        self.changed.push(index);
        (layout::total(&row.queue, &row.kind), codec::encode_total(&row.counts, foreign))
    }

    /// The metrics to show when everything added since the last call is durable.
    pub(crate) fn landing(&mut self, events: Vec<Event>) -> Landing {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let rows = changed.into_iter().map(|index| (index, self.totals[index].row.clone()));
        Landing { rows: rows.collect(), events }
    }

    /// Shows the metrics of a durable step.
    pub(crate) fn landed(&mut self, landing: Landing) {
        if !landing.rows.is_empty() {
            self.metrics.set_totals(landing.rows);
        }
        for event in &landing.events {
            match event.what {
                Happened::Due { late } => self.metrics.timer_lateness().observe(seconds(late)),
                Happened::Started { waited: Some(waited) } => {
                    let index = self.index(&event.lane);
                    self.totals[index].waited.observe(seconds(waited));
                }
                Happened::Completed { ran }
                | Happened::Retried { ran }
                | Happened::Snoozed { ran }
                | Happened::Failed { ran: Some(ran), .. } => {
                    let index = self.index(&event.lane);
                    self.totals[index].ran.observe(seconds(ran));
                }
                _ => {}
            }
        }
    }

    fn index(&mut self, lane: &Arc<LaneName>) -> TotalIndex {
        if let Some((last, index)) = &self.last
            && Arc::ptr_eq(last, lane)
        {
            return *index;
        }
        let index = match self.at_hand.get(lane) {
            Some(index) => *index,
            None => self.find(lane),
        };
        self.last = Some((lane.clone(), index));
        index
    }

    fn find(&mut self, lane: &Arc<LaneName>) -> TotalIndex {
        let queue = self.metrics.queues().fold(&lane.queue);
        let mut kind = self.metrics.kinds().fold(&lane.kind);
        let most = self.metrics.names_max() * KINDS_A_QUEUE;
        let is_new = !self.indices.contains_key(&(queue.clone(), kind.clone()));
        if is_new && self.totals.len() >= most {
            kind = OTHER.into();
        }
        let index = self.open(queue, kind);
        if self.at_hand.len() >= LANES_AT_HAND {
            self.at_hand.clear();
        }
        self.at_hand.insert(lane.clone(), index);
        index
    }

    /// The index of a pair; a new one if there is none.
    fn open(&mut self, queue: Arc<str>, kind: Arc<str>) -> TotalIndex {
        let pair = (queue.clone(), kind.clone());
        if let Some(index) = self.indices.get(&pair) {
            return *index;
        }
        let index = self.totals.len();
        let (waited, ran) =
            (self.metrics.schedule_to_start(&queue), self.metrics.execution(&queue));
        let row = Row { queue, kind, counts: Counts::default() };
        self.totals.push(Total { row, foreign: ForeignCounts::default(), waited, ran });
        self.indices.insert(pair, index);
        index
    }
}

#[expect(clippy::cast_precision_loss, reason = "centuries fit")]
fn seconds(time: Millis) -> f64 {
    time.0 as f64 / 1000.0
}

fn count_of(what: Happened) -> Option<Count> {
    Some(match what {
        Happened::Due { .. } => return None,
        Happened::Submitted => Count::Submitted,
        Happened::Revived => Count::Revived,
        Happened::Started { .. } => Count::Started,
        Happened::Released => Count::Released,
        Happened::Retried { .. } => Count::Retried,
        Happened::Snoozed { .. } => Count::Snoozed,
        Happened::Lost => Count::Lost,
        Happened::Completed { .. } => Count::Completed,
        Happened::Failed { reason, .. } => match reason {
            FailureReason::Permanent => Count::FailedPermanent,
            FailureReason::Timeout => Count::FailedTimeout,
            FailureReason::WorkerLost => Count::FailedWorkerLost,
            FailureReason::Error | FailureReason::Cancelled | FailureReason::Expired => {
                Count::FailedError
            }
        },
        Happened::Cancelled => Count::Cancelled,
        Happened::Expired => Count::Expired,
    })
}

#[cfg(test)]
mod tests {
    use rota_core::Name;

    use super::*;

    #[test]
    fn each_queue_that_is_named_has_five_kinds_on_average() {
        let mut ledger = Ledger {
            metrics: NodeMetrics::new("test", 4),
            totals: Vec::new(),
            indices: FxHashMap::default(),
            at_hand: FxHashMap::default(),
            last: None,
            changed: Vec::new(),
        };
        let name = |text: String| Name::new(&text).expect("a name");
        for queue in 0..5 {
            for kind in 0..5 {
                let (queue, kind) = (name(format!("q{queue}")), name(format!("k{kind}")));
                ledger.index(&Arc::new(LaneName { queue, kind }));
            }
        }
        // Four names and `other` for both, until there are 4 x 5 pairs; all later ones are of the kind `other`.
        assert_eq!(ledger.totals.len(), 21);
        let last = &ledger.totals[20].row;
        assert_eq!((&*last.queue, &*last.kind), (OTHER, OTHER));
    }
}
