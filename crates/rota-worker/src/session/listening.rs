//! The output of running attempts that the server has asked for.
//!
//! Output is sent in rounds, and only while nothing else waits to be sent. So it delays heartbeats and reports by at
//! most one round, on a slow connection too. Output that comes faster is left out in the middle: each attempt keeps
//! the end of its output. The report at the end of an attempt has the rest.

use std::{collections::VecDeque, time::Duration};

use rota_proto::v1::{self, worker_message::Message as Up};
use rustc_hash::FxHashMap;
use tokio::{sync::mpsc, time::Instant};

use super::Session;
use crate::connection::{OUTGOING, message};

/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(100);
/// Maximum number of messages in a round, and their bytes.
const MESSAGES_A_ROUND: usize = 16;
const ROUND_BYTES: usize = 64 << 10;

/// The tasks that the server listens to on one connection.
#[derive(Debug, Default)]
pub(super) struct Listening {
    tasks: FxHashMap<String, Listened>,
    /// Tasks with output to send. Each is included once.
    waiting: VecDeque<(String, u64)>,
    /// When the next round can be sent.
    next_round: Option<Instant>,
}

#[derive(Debug)]
struct Listened {
    token: u64,
    /// Bytes of the output that were sent, or left out.
    sent: u64,
}

impl Listening {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// When there is something to send.
    pub(super) fn due(&self) -> Option<Instant> {
        let at_once = || Some(Instant::now());
        if self.waiting.is_empty() { None } else { self.next_round.or_else(at_once) }
    }

    /// Notes that an attempt has new output.
    pub(super) fn is_told(&mut self, task_id: String, token: u64) {
        if self.has(&task_id, token) {
            self.waiting.push_back((task_id, token));
        }
    }

    fn has(&self, task_id: &str, token: u64) -> bool {
        self.tasks.get(task_id).is_some_and(|listened| listened.token == token)
    }

    pub(super) fn forget(&mut self, task_id: &str, token: u64) {
        if self.has(task_id, token) {
            self.tasks.remove(task_id);
            self.waiting.retain(|(waiting, _)| waiting != task_id);
        }
    }
}

impl Session {
    /// Begins to send the output of an attempt with what is kept of it, or ends it.
    pub(super) fn watch_output(&mut self, watch: v1::WatchOutput) {
        let v1::WatchOutput { task_id, lease_token, on } = watch;
        let running = self.running.get(&task_id).filter(|running| running.token == lease_token);
        let Some(running) = running else { return };
        running.context.output().watch(on);
        self.listening.forget(&task_id, lease_token);
        if on {
            let listened = Listened { token: lease_token, sent: 0 };
            self.listening.tasks.insert(task_id.clone(), listened);
            // Sent even if it is empty: then the server knows that there is nothing yet.
            self.listening.waiting.push_back((task_id, lease_token));
        }
    }

    /// Sends a round of output, unless other messages wait to be sent.
    pub(super) fn send_output(&mut self, up: &mpsc::Sender<v1::WorkerMessage>) {
        self.listening.next_round = Some(Instant::now() + ROUND);
        if up.capacity() < OUTGOING {
            return;
        }
        let mut room = ROUND_BYTES;
        for _ in 0..MESSAGES_A_ROUND {
            if room == 0 {
                return;
            }
            let Some((task_id, lease_token)) = self.listening.waiting.pop_front() else { return };
            let running = self.running.get(&task_id).filter(|task| task.token == lease_token);
            let listened = self.listening.tasks.get_mut(&task_id);
            let (Some(running), Some(listened)) = (running, listened) else { continue };
            let piece = running.context.output().take(listened.sent, room);
            listened.sent = piece.offset + piece.bytes.len() as u64;
            room -= piece.bytes.len();
            if piece.has_more {
                self.listening.waiting.push_back((task_id.clone(), lease_token));
            }
            let output =
                v1::Output { task_id, lease_token, offset: piece.offset, output: piece.bytes };
            // The capacity was checked, and there is no other sender.
            let _ = up.try_send(message(Up::Output(output)));
        }
    }
}
