//! A machine that a follower builds before it leads, because the leader is about to transfer leadership.
//!
//! Building the machine takes about a microsecond for each task, and clients would wait if it began only
//! after the former leader has given up leadership. So the leader asks first. The follower builds the machine
//! from its copy of the records, and continues to follow the store. When it leads, it loads only the tasks
//! that have changed meanwhile.
//!
//! It is only an optimisation: if a change cannot be applied to it, the machine is built from all records
//! instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use rota_core::{TaskId, TaskIdSequence};
use rota_store::{BatchSeq, Epoch, Mutation};
use tokio::time::Instant;

use crate::{
    host::{Host, Parallel},
    layout,
    load::{self, Loaded, MachineOptions, Records},
    records::{Kind, Live},
    schedule_records::ScheduleRecords,
};

/// Time after which an unused machine is dropped.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// A prepared machine.
pub(crate) struct Prepared {
    /// The leadership that requested it.
    pub(crate) asked_by: Epoch,
    pub(crate) kept_until: Instant,
    making: Option<Pin<Box<dyn Future<Output = Loaded> + Send>>>,
    made: Option<Loaded>,
    /// Tasks whose records have changed since the build began.
    changed: BTreeSet<TaskId>,
    /// Keys of schedules whose records have changed since.
    changed_schedules: BTreeSet<Bytes>,
    spoilt: bool,
}

impl Prepared {
    /// Starts building the machine. Wait for it with [`Prepared::made`].
    pub(crate) fn begin(
        asked_by: Epoch,
        records: Records,
        options: MachineOptions,
        host: &Host,
    ) -> Self {
        let (host, now) = (host.clone(), host.now());
        let making = async move {
            // Nobody waits for it, and on a small host the leader may need the other processor.
            let parallel = Parallel::Inline;
            host.block_on(move || load::restore(&records, options, now, parallel)).await
        };
        Self {
            asked_by,
            kept_until: Instant::now() + KEPT_FOR,
            making: Some(Box::pin(making)),
            made: None,
            changed: BTreeSet::new(),
            changed_schedules: BTreeSet::new(),
            spoilt: false,
        }
    }

    /// Resolves once, when the machine is built. Cancel safe.
    pub(crate) async fn made(&mut self) {
        match &mut self.making {
            Some(making) => {
                self.made = Some(making.await);
                self.making = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Records a change that the machine does not include.
    pub(crate) fn note(&mut self, mutation: &Mutation) {
        let space = mutation.space();
        if space == layout::QUEUE || space == layout::CALENDAR {
            self.spoilt = true;
        }
        if space == layout::SCHEDULE || space == layout::CURSOR {
            self.changed_schedules.insert(mutation.key().clone());
        }
        if space == layout::LIVE {
            self.changed.extend(layout::parse_task(mutation.key()));
        }
    }

    /// Loads the changes since then, so that the machine includes all of `live`. `None` if it cannot be used.
    pub(crate) async fn finish(
        mut self,
        live: &BTreeMap<TaskId, Bytes>,
        schedules: &ScheduleRecords,
        newest: Option<TaskId>,
        head: BatchSeq,
    ) -> Option<Loaded> {
        if let Some(making) = self.making.take() {
            self.made = Some(making.await);
        }
        let mut loaded = self.made.filter(|_| !self.spoilt)?;
        for task in self.changed {
            if loaded.machine.is_set_aside(task) {
                return None;
            }
            loaded.machine.forget_task(task);
            if let Some(value) = live.get(&task) {
                loaded.machine.restore_task(&Live::decode(&task, value).ok()?);
            }
        }
        for key in self.changed_schedules {
            if let Some(name) = layout::parse_name(&key) {
                loaded.machine.forget_schedule(&name);
            }
            schedules.restore_one(&key, &mut loaded.machine).ok()?;
        }
        loaded.ids = TaskIdSequence::after(newest);
        loaded.head = head;
        Some(loaded)
    }
}
