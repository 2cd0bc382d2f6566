//! Has Redis write its append-only file anew after a restart.
//!
//! Redis writes a batch to its file as one transaction. When a crash tore the last one, Redis (7.0, Valkey 8.0 and others)
//! cuts the file off behind the last whole command, which is within the transaction. The data in memory is right then, but
//! at the next restart what was written next counts as part of the torn transaction: depending on the version, some changes
//! of the torn batch come back, or the batch after it is lost. A file that is written anew from memory has neither.
//!
//! No server says that its file was torn. So the first process that connects after a restart asks for the new file, unless
//! one was written since. If Redis crashes before the new file is complete, it may refuse to start once; its next start
//! succeeds, because the first one has cut the torn transaction off.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redis::{Value, aio::MultiplexedConnection};

use super::{fault::Fault, fitness::Inspection};

/// So many runs are remembered: a former master that lives on alternates with the new one for a moment.
const RUNS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct TornFile {
    /// The runs of servers that need no more of it, the latest last.
    settled: Mutex<VecDeque<String>>,
}

impl TornFile {
    /// Asks this server for a new file if it has not written one since it started. A failure is told in the log only: the
    /// server can be used.
    pub(super) async fn replace(
        &self,
        connection: &mut MultiplexedConnection,
        inspection: &Inspection,
    ) {
        if self.is_settled(inspection.run()) {
            return;
        }
        if !inspection.may_have_torn_file() {
            self.settle(inspection.run());
            return;
        }
        let asked = redis::cmd("BGREWRITEAOF").query_async::<Value>(connection).await;
        match asked.map_err(Fault::from) {
            Ok(_) => tracing::info!("Redis writes its append-only file anew after a restart"),
            Err(Fault::Forbidden(reason)) => tracing::warn!(
                reason,
                "run BGREWRITEAOF after each crash of Redis, or allow it to the user of Rota: after two crashes, Redis \
                 can restore parts of an unfinished batch"
            ),
            // Another process has asked for it meanwhile, or the connection broke. The next connection looks again.
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), "asking for a new file failed");
                return;
            }
        }
        self.settle(inspection.run());
    }

    fn settled(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_settled(&self, run: &str) -> bool {
        self.settled().iter().any(|settled| settled == run)
    }

    fn settle(&self, run: &str) {
        let mut settled = self.settled();
        settled.push_back(run.to_owned());
        if settled.len() > RUNS {
            settled.pop_front();
        }
    }
}
