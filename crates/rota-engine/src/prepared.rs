//! A machine that a standby makes before it leads, because the leader is about to hand over.
//!
//! Making the machine takes about a microsecond for each task, and clients would wait for it if it began only when
//! the former leader has let go. So the leader asks first. The standby makes the machine of the records that it has
//! and goes on following the store; when it leads, only the tasks that changed meanwhile are taken up anew.
//!
//! It is a shortcut only: whatever cannot be taken up apart spoils it, and then the machine is made of all records.

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
};

/// A machine that was not needed within this time gives its memory back.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Prepared {
    /// The leadership that asked for it.
    pub(crate) asked_by: Epoch,
    pub(crate) kept_until: Instant,
    making: Option<Pin<Box<dyn Future<Output = Loaded> + Send>>>,
    made: Option<Loaded>,
    /// Tasks whose records changed since the machine was begun.
    changed: BTreeSet<TaskId>,
    spoilt: bool,
}

impl Prepared {
    /// Begins to make the machine. Wait for it with [`Prepared::made`].
    pub(crate) fn begin(
        asked_by: Epoch,
        records: Records,
        options: MachineOptions,
        host: &Host,
    ) -> Self {
        let (host, now) = (host.clone(), host.now());
        let making = async move {
            // Nobody waits for it, and on a small machine the leader may need the other processor.
            let parallel = Parallel::Inline;
            host.block_on(move || load::restore(&records, options, now, parallel)).await
        };
        Self {
            asked_by,
            kept_until: Instant::now() + KEPT_FOR,
            making: Some(Box::pin(making)),
            made: None,
            changed: BTreeSet::new(),
            spoilt: false,
        }
    }

    /// Resolves once, when the machine is made. Cancel safe.
    pub(crate) async fn made(&mut self) {
        match &mut self.making {
            Some(making) => {
                self.made = Some(making.await);
                self.making = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Takes note of a change that the machine does not hold.
    pub(crate) fn note(&mut self, mutation: &Mutation) {
        if mutation.space() == layout::QUEUE {
            self.spoilt = true;
        }
        if mutation.space() == layout::LIVE {
            self.changed.extend(layout::parse_task(mutation.key()));
        }
    }

    /// Takes up what changed since: from here on it holds all of `live`. `None`: it is of no use.
    pub(crate) async fn finish(
        mut self,
        live: &BTreeMap<TaskId, Bytes>,
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
        loaded.ids = TaskIdSequence::after(newest);
        loaded.head = head;
        Some(loaded)
    }
}
