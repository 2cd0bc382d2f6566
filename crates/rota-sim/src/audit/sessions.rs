//! What the auditor knows of workers' sessions, and the rules that protect healthy workers.

use super::{Auditor, Rule, Snooze};
use crate::{machine::WALL_AT_START, world::Endpoint};

/// What is known of a session's worker.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// By which nodes it was heard of.
    heard: Vec<Contact>,
    ttl_us: u64,
    /// Where its worker runs.
    worker: Option<Endpoint>,
    /// It said goodbye, or gave up.
    over: bool,
    /// The most tasks that it holds.
    slots: Option<u32>,
    /// Those that it holds.
    held: u32,
    /// In which epoch it was opened last, by which node, and for how long that one had listened.
    opened: Option<(u64, Endpoint, u64)>,
    /// In which epoch it was told to take no more, and after which batch.
    drained: Option<Drained>,
}

/// A client was told that the session drains: in which leadership, after which batch, and since when the leader
/// had heard of its worker without a longer silence.
#[derive(Debug, Clone, Copy)]
struct Drained {
    epoch: u64,
    seq: u64,
    steady_since_us: Option<u64>,
}

/// How one node hears of a worker. Times are those in which the node could listen.
#[derive(Debug, Clone, Copy)]
struct Contact {
    endpoint: Endpoint,
    last_us: u64,
    /// Since when no silence was longer than half the TTL.
    steady_since_us: u64,
}

/// How a worker was heard of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// By which node, and for how long that one had listened by then.
    pub(crate) endpoint: Endpoint,
    pub(crate) listened_us: u64,
    pub(crate) worker: Endpoint,
    pub(crate) ttl_us: u64,
}

/// A batch on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) epoch: u64,
    pub(super) at_us: u64,
    pub(super) listened_us: u64,
    /// When the one before it was sent: what it says was decided after that. In time in which the node
    /// listened, and in true time.
    pub(super) former_listened_us: u64,
    pub(super) former_us: u64,
}

impl Session {
    fn contact(&self, endpoint: Endpoint) -> Option<&Contact> {
        self.heard.iter().find(|contact| contact.endpoint == endpoint)
    }
}

impl Auditor {
    /// A worker's message was handed to the engine of a node.
    pub(crate) fn heard(&mut self, session: u64, heard: Heard) {
        let Heard { endpoint, worker, ttl_us, listened_us } = heard;
        let session = self.sessions.entry(session).or_default();
        session.ttl_us = ttl_us;
        session.worker = Some(worker);
        match session.heard.iter_mut().find(|contact| contact.endpoint == endpoint) {
            Some(contact) => {
                if listened_us - contact.last_us > ttl_us / 2 {
                    contact.steady_since_us = listened_us;
                }
                contact.last_us = listened_us;
            }
            None => session.heard.push(Contact {
                endpoint,
                last_us: listened_us,
                steady_since_us: listened_us,
            }),
        }
    }

    /// A session with a stream was opened, just after its worker was heard of there.
    pub(crate) fn opened(&mut self, id: u64, endpoint: Endpoint, slots: u32) {
        let epoch = self.epoch;
        let session = self.sessions.entry(id).or_default();
        session.slots = Some(slots);
        let listened_us = session.contact(endpoint).map_or(u64::MAX, |contact| contact.last_us);
        session.opened = Some((epoch, endpoint, listened_us));
    }

    /// A node was told to stop: it gives up its leadership, and answers no more.
    pub(crate) fn stopping(&mut self, endpoint: Endpoint) {
        self.stopping.insert(endpoint);
    }

    /// A machine's process ended: what it heard is gone, and so are the sessions of its workers.
    pub(crate) fn crashed(&mut self, endpoint: Endpoint) {
        self.stopping.remove(&endpoint);
        for session in self.sessions.values_mut() {
            session.heard.retain(|contact| contact.endpoint != endpoint);
            session.over |= session.worker == Some(endpoint);
        }
    }

    /// A worker's session is over by its own will, or its process ended.
    pub(crate) fn gave_up(&mut self, session: u64) {
        self.sessions.entry(session).or_default().over = true;
    }

    /// A client was told that a session drains.
    pub(crate) fn drained(&mut self, session: u64, epoch: u64) {
        let seq = self.seq;
        if epoch == self.epoch {
            let session = self.sessions.entry(session).or_default();
            let contact = session.opened.and_then(|(_, by, _)| session.contact(by));
            let steady_since_us = contact.map(|contact| contact.steady_since_us);
            session.drained = Some(Drained { epoch, seq, steady_since_us });
        }
    }

    /// A lease went from one session to another, of which either may be none.
    pub(super) fn lease_moved(
        &mut self,
        now_us: u64,
        (from, to): (Option<u64>, Option<u64>),
        token: u64,
        endpoint: Endpoint,
    ) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            let held = &mut self.sessions.entry(from).or_default().held;
            *held = held.saturating_sub(1);
        }
        let Some(to) = to else { return };
        self.gained.push(to);
        let epoch = self.epoch;
        let session = self.sessions.entry(to).or_default();
        session.held += 1;
        let Some(Drained { epoch: in_epoch, seq: after, steady_since_us }) = session.drained else {
            return;
        };
        // One that was silent meanwhile may have ended and been opened anew.
        let steady = session.opened.is_some_and(|(at, by, _)| at == epoch && by == endpoint)
            && session.contact(endpoint).map(|contact| contact.steady_since_us) == steady_since_us;
        if in_epoch == epoch && token > after + 1 && steady && !session.over {
            let what = format!("session {to:x} drains since batch {after} and got lease {token}");
            self.broken(Rule::Drain, now_us, what);
        }
    }

    /// Checks that no session that gained a lease holds more than its slots.
    pub(super) fn check_slots(&mut self, now_us: u64) {
        for id in std::mem::take(&mut self.gained) {
            let Some(session) = self.sessions.get(&id) else { continue };
            let (held, slots) = (session.held, session.slots);
            if let Some(slots) = slots.filter(|slots| held > *slots) {
                let what = format!("session {id:x} holds {held} tasks, and has {slots} slots");
                self.broken(Rule::Bounds, now_us, what);
            }
        }
    }

    /// A worker without a stream was given so many tasks, and had asked for so many.
    pub(crate) fn leased(&mut self, now_us: u64, session: u64, count: usize, max: u32) {
        if count > max as usize {
            let what = format!("session {session:x} asked for {max} tasks and got {count}");
            self.broken(Rule::Bounds, now_us, what);
        }
    }

    /// A worker was given a lease that it had before.
    pub(crate) fn handed_twice(&mut self, now_us: u64, session: u64, id: u64, token: u64) {
        let what = format!("session {session:x} was handed lease {token} of task {id:x} twice");
        self.broken(Rule::Dispatch, now_us, what);
    }

    /// Nothing is taken back from a worker with a stream that did not say goodbye.
    pub(super) fn check_taken(&mut self, now_us: u64, id: u64, session: u64) {
        let known = self.sessions.get(&session);
        if known.is_some_and(|known| known.slots.is_some() && !known.over) {
            let what = format!("task {id:x} was taken back from session {session:x} unasked");
            self.broken(Rule::Healthy, now_us, what);
        }
    }

    /// A worker is about to give a task back.
    pub(crate) fn gives_back(&mut self, id: u64, token: u64) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.given_back = Some(token);
        }
    }

    /// The handler of a task is about to snooze it for so long.
    pub(crate) fn snoozes_for(&mut self, now_us: u64, tag: u64, token: u64, delay_ms: i64) {
        let Some(id) = self.by_tag.get(&tag).copied() else { return };
        let until_ms = WALL_AT_START + (now_us / 1000).cast_signed() + delay_ms;
        self.snoozes(id, Snooze { token, until_ms, by_delay: true });
    }

    /// A worker is about to snooze a task. What it asked for first counts.
    pub(crate) fn snoozes(&mut self, id: u64, snooze: Snooze) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.snoozing.as_ref().is_none_or(|known| known.token != snooze.token) {
            task.snoozing = Some(Box::new(snooze));
        }
    }

    /// No healthy worker loses a lease.
    pub(super) fn check_loss(
        &mut self,
        now_us: u64,
        id: u64,
        session: u64,
        endpoint: Endpoint,
        sent: Option<Sent>,
    ) {
        if self.by_wire {
            if now_us > self.troubled_until_us {
                let what = format!(
                    "task {id:x}: session {session:x} lost its lease, though nothing but the store \
                     was troubled since {} µs",
                    self.troubled_until_us
                );
                self.broken(Rule::Healthy, now_us, what);
            }
            return;
        }
        let Some(known) = self.sessions.get(&session).filter(|known| !known.over) else {
            self.counts.lost_over += 1;
            return;
        };
        let (Some(contact), Some(sent)) = (known.contact(endpoint), sent) else {
            self.counts.lost_unheard += 1;
            return;
        };
        let silent_us = sent.listened_us.saturating_sub(contact.last_us);
        let steady = contact.steady_since_us + known.ttl_us <= sent.former_listened_us;
        if !steady {
            self.counts.lost_silent += 1;
            return;
        }
        self.counts.lost_silent += u64::from(silent_us >= known.ttl_us / 2);
        if silent_us < known.ttl_us / 2 {
            let ttl_us = known.ttl_us;
            let what = format!(
                "task {id:x}: session {session:x} lost its lease after {silent_us} µs without a \
                 message, of a TTL of {ttl_us} µs"
            );
            self.broken(Rule::Healthy, now_us, what);
        }
    }

    /// A heartbeat of a session with a stream was not answered at once. That is right only where the
    /// node may not know whether it leads, does not have the session open, or was told to stop.
    pub(crate) fn late_sign(
        &mut self,
        now_us: u64,
        session: u64,
        endpoint: Endpoint,
        since_us: u64,
    ) {
        let Some(known) = self.sessions.get(&session).filter(|known| !known.over) else { return };
        let Some((epoch, by, opened_us)) = known.opened else { return };
        let steady =
            known.contact(endpoint).is_some_and(|contact| contact.steady_since_us <= opened_us);
        let in_epoch = epoch == self.epoch && by == endpoint;
        let held = self.held.is_some_and(|(held, from_us, until_us)| {
            held == endpoint && from_us <= since_us && now_us < until_us
        });
        if steady && in_epoch && held && !self.stopping.contains(&endpoint) {
            let what = format!(
                "a heartbeat of session {session:x} waits since {since_us} µs, though node {} leads",
                endpoint.0
            );
            self.broken(Rule::Signs, now_us, what);
        }
    }
}
