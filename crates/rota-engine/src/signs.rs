//! Signs of life: what workers say of themselves, heard at once and apart from the coordinator's loop.
//!
//! That a worker lives, and how many tasks it is ready for, is soft: no commit is needed for it. So it
//! is noted here the moment it arrives, however long the store takes, and the loop takes it up before
//! it judges who was silent. The table holds the sessions that are open as far as is durable; of any
//! other session, or where the leadership is not held, the loop gives the answer.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rota_core::{Command, Credit, MonoTime, SessionId};
use rota_store::Leadership;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::planted::Planted;

/// A leadership that several ask whether it is held.
pub(crate) type SharedLeadership = Arc<Box<dyn Leadership>>;

/// What was heard of workers since the loop last asked. Its lock is held for a few instructions.
#[derive(Default)]
pub(crate) struct Signs {
    table: Mutex<Table>,
    /// A worker said how many tasks it is ready for.
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
    /// It counts whatever the worker's last connection is: a call of its own waits for an answer. That call may
    /// be the one that opens the next connection, which is applied before it is durable.
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
        // Nothing that is done under the lock can leave it half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node listens from now on. These sessions are open.
    pub(crate) fn begin(
        &self,
        leadership: SharedLeadership,
        open: impl Iterator<Item = (SessionId, u64)>,
    ) {
        let table =
            Table { leadership: Some(leadership), open: open.collect(), ..Table::default() };
        *self.table() = table;
    }

    /// This node leads no more.
    pub(crate) fn end(&self) {
        *self.table() = Table::default();
    }

    /// A session is open on this connection, and that is durable.
    pub(crate) fn opened(&self, session: SessionId, connection: u64) {
        let mut table = self.table();
        if table.open.insert(session, connection) != Some(connection)
            && let Some(heard) = table.heard.get_mut(&session)
        {
            // It said so on its former connection.
            heard.credit = None;
        }
    }

    /// A session has ended, and that is durable.
    pub(crate) fn ended(&self, session: SessionId) {
        let mut table = self.table();
        table.open.remove(&session);
        table.heard.remove(&session);
    }

    /// Whether this node leads at this moment, by the clock. Asks nobody.
    pub(crate) fn is_held(&self) -> bool {
        self.table().is_held()
    }

    /// A worker lives, and is ready to hold that many tasks if it says so. False: this is not known
    /// here, and the loop is to be asked.
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
        // A process that was stopped may believe that it leads.
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

    /// Resolves when a worker has said something that must not wait. Cancel safe.
    pub(crate) async fn said(&self) {
        self.said.notified().await;
    }

    /// What was heard since the last call, as commands.
    pub(crate) fn take(&self) -> Vec<Command> {
        let mut table = self.table();
        let mut heard: Vec<_> = std::mem::take(&mut table.heard).into_iter().collect();
        // Its order must not depend on a hash.
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
