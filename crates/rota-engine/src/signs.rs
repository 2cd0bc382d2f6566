//! Heartbeats and credit of workers, received at once and independently of the coordinator's loop.
//!
//! Heartbeats and credit are soft state that needs no commit. So they are recorded here when they arrive,
//! even if the store is slow, and the loop applies them before it judges which workers were silent. The table
//! has the sessions that are durably open. For other sessions, or if leadership is not held, the loop
//! answers.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rota_core::{Command, Credit, MonoTime, SessionId};
use rota_store::Leadership;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::planted::Planted;

/// A leadership that several owners can check.
pub(crate) type SharedLeadership = Arc<Box<dyn Leadership>>;

/// Heartbeats and credit since the loop last asked. Its lock is held only for a few instructions.
#[derive(Default)]
pub(crate) struct Signs {
    table: Mutex<Table>,
    /// Whether a worker sent credit.
    said: Notify,
}

#[derive(Default)]
struct Table {
    leadership: Option<SharedLeadership>,
    /// The last connection of each open session.
    open: FxHashMap<SessionId, u64>,
    heard: FxHashMap<SessionId, Heard>,
}

impl Table {
    fn is_held(&self) -> bool {
        self.leadership.as_ref().is_some_and(|leadership| leadership.is_held())
    }
}

#[derive(Default)]
struct Heard {
    at: MonoTime,
    /// The heartbeat counts for every connection, because a call of the worker waits for an answer. That call
    /// may be the one that opens the next connection, which is applied before it is durable.
    on_any: bool,
    credit: Option<u32>,
}

impl fmt::Debug for Signs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signs").finish_non_exhaustive()
    }
}

impl Signs {
    fn table(&self) -> MutexGuard<'_, Table> {
        // No code under this lock can panic halfway through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts receiving. These sessions are open.
    pub(crate) fn begin(
        &self,
        leadership: SharedLeadership,
        open: impl Iterator<Item = (SessionId, u64)>,
    ) {
        let table =
            Table { leadership: Some(leadership), open: open.collect(), ..Table::default() };
        *self.table() = table;
    }

    /// Stops receiving, because this node is no longer the leader.
    pub(crate) fn end(&self) {
        *self.table() = Table::default();
    }

    /// Adds a session that is durably open on this connection.
    pub(crate) fn opened(&self, session: SessionId, connection: u64) {
        let mut table = self.table();
        if table.open.insert(session, connection) != Some(connection)
            && let Some(heard) = table.heard.get_mut(&session)
        {
            // It was sent on the former connection.
            heard.credit = None;
        }
    }

    /// Removes a session that has durably ended.
    pub(crate) fn ended(&self, session: SessionId) {
        let mut table = self.table();
        table.open.remove(&session);
        table.heard.remove(&session);
    }

    /// Whether this node is the leader at this moment, by the clock, without I/O.
    pub(crate) fn is_held(&self) -> bool {
        self.table().is_held()
    }

    /// Records a heartbeat, with credit if it has some. Returns false if the session is unknown here, so that
    /// the loop must answer.
    pub(crate) fn hear(
        &self,
        session: SessionId,
        connection: Option<u64>,
        at: MonoTime,
        credit: Option<u32>,
    ) -> bool {
        let mut table = self.table();
        let open = table.open.get(&session).copied();
        let known = open.is_some_and(|open| connection.is_none_or(|by| by == open));
        // A process that was paused may still believe that it is the leader.
        if Planted::HeartbeatsWait.is_made() {
            return false;
        }
        if !known || !table.is_held() {
            return false;
        }
        let heard = table.heard.entry(session).or_default();
        heard.at = heard.at.max(at);
        heard.on_any |= connection.is_none();
        if credit.is_some() {
            heard.credit = credit;
            drop(table);
            self.said.notify_one();
        }
        true
    }

    /// Resolves when a worker has sent credit, which must not wait. Cancel safe.
    pub(crate) async fn said(&self) {
        self.said.notified().await;
    }

    /// Everything received since the last call, as commands.
    pub(crate) fn take(&self) -> Vec<Command> {
        let mut table = self.table();
        let mut heard: Vec<_> = std::mem::take(&mut table.heard).into_iter().collect();
        // The order must not depend on a hash.
        heard.sort_unstable_by_key(|(session, _)| *session);
        let mut commands = Vec::with_capacity(heard.len());
        for (session, Heard { at, on_any, credit }) in heard {
            let connection = table.open.get(&session).copied();
            let heard_on = connection.filter(|_| !on_any);
            commands.push(Command::Heartbeat { session, connection: heard_on, at });
            let credit = credit.map(Credit::Hold);
            commands.extend(credit.map(|credit| Command::SetCredit {
                session,
                connection,
                credit,
            }));
        }
        commands
    }
}
