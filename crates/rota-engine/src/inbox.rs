//! The coordinator's inbox, for requests of clients, workers and retention.
//!
//! Workers have their own lane, which is served first, so that many clients cannot block heartbeats and
//! reports. Each request of a worker has the time at which it was sent, so that the coordinator judges
//! workers by the messages it has read, not by the time at which it reads them.

use std::{collections::VecDeque, time::Duration};

use rota_core::MonoTime;
use tokio::sync::mpsc::{self, error::SendTimeoutError};

use crate::request::Request;

/// Maximum number of requests in each lane. Beyond it, callers wait, and are soon refused.
pub(crate) const INBOX: usize = 4096;

/// A request, and the time at which it was sent if it comes from a worker.
pub(crate) struct Sent {
    pub(crate) request: Request,
    pub(crate) by_worker: Option<MonoTime>,
}

/// The budget for taking requests from the inbox. One request can exceed it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) requests: usize,
    pub(crate) commands: usize,
    pub(crate) bytes: usize,
}

impl Budget {
    pub(crate) fn is_spent(&self) -> bool {
        self.requests == 0 || self.commands == 0 || self.bytes == 0
    }

    fn spend(&mut self, request: &Request) {
        let (commands, bytes) = request.weight();
        self.requests = self.requests.saturating_sub(1);
        self.commands = self.commands.saturating_sub(commands);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The part of workers: half of the budget, before clients get the rest.
    fn half(&self) -> Self {
        Self {
            requests: self.requests.div_ceil(2),
            commands: self.commands.div_ceil(2),
            bytes: self.bytes.div_ceil(2),
        }
    }
}

/// The receiving end.
pub(crate) struct Inbox {
    workers: mpsc::Receiver<Sent>,
    clients: mpsc::Receiver<Sent>,
}

/// The sending end.
#[derive(Clone)]
pub(crate) struct InboxSender {
    workers: mpsc::Sender<Sent>,
    clients: mpsc::Sender<Sent>,
}

/// A sending end that does not keep the inbox open.
#[derive(Clone)]
pub(crate) struct WeakInboxSender {
    workers: mpsc::WeakSender<Sent>,
    clients: mpsc::WeakSender<Sent>,
}

impl WeakInboxSender {
    pub(crate) fn upgrade(&self) -> Option<InboxSender> {
        Some(InboxSender { workers: self.workers.upgrade()?, clients: self.clients.upgrade()? })
    }
}

pub(crate) fn inbox() -> (InboxSender, Inbox) {
    let (workers, from_workers) = mpsc::channel(INBOX);
    let (clients, from_clients) = mpsc::channel(INBOX);
    (InboxSender { workers, clients }, Inbox { workers: from_workers, clients: from_clients })
}

impl InboxSender {
    pub(crate) fn downgrade(&self) -> WeakInboxSender {
        WeakInboxSender { workers: self.workers.downgrade(), clients: self.clients.downgrade() }
    }

    /// Sends a request, if there is room within `wait`. Cancel safe.
    pub(crate) async fn send(
        &self,
        request: Request,
        now: MonoTime,
        wait: Duration,
    ) -> Result<(), SendTimeoutError<()>> {
        let by_worker = request.is_workers().then_some(now);
        let lane = if by_worker.is_some() { &self.workers } else { &self.clients };
        let sent = lane.send_timeout(Sent { request, by_worker }, wait).await;
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => SendTimeoutError::Timeout(()),
            SendTimeoutError::Closed(_) => SendTimeoutError::Closed(()),
        })
    }

    /// Number of waiting requests, and the maximum.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let lanes = [&self.workers, &self.clients];
        let max = lanes.iter().map(|lane| lane.max_capacity()).sum();
        let room: usize = lanes.iter().map(|lane| lane.capacity()).sum();
        (max - room, max)
    }
}

impl Inbox {
    /// Takes requests up to the budget. Waits for one if there is none and none was taken before. Returns
    /// false if no more will come. Cancel safe.
    pub(crate) async fn take(&mut self, taken: &mut VecDeque<Sent>, mut budget: Budget) -> bool {
        taken.iter().for_each(|sent| budget.spend(&sent.request));
        if taken.is_empty() {
            let Some(first) = self.recv().await else { return false };
            budget.spend(&first.request);
            taken.push_back(first);
        }
        let half = budget.half();
        let spent = fill(&mut self.workers, taken, half);
        budget.requests -= half.requests - spent.requests;
        budget.commands -= half.commands - spent.commands;
        budget.bytes -= half.bytes - spent.bytes;
        let budget = fill(&mut self.clients, taken, budget);
        fill(&mut self.workers, taken, budget);
        true
    }

    /// The next request. `None` if no more will come. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Option<Sent> {
        tokio::select! {
            biased;
            Some(sent) = self.workers.recv() => Some(sent),
            Some(sent) = self.clients.recv() => Some(sent),
            else => None,
        }
    }

    /// Whether all requests of workers have been taken.
    pub(crate) fn has_heard_workers(&self) -> bool {
        self.workers.is_empty()
    }

    /// Closes the inbox. Requests in it can still be taken.
    pub(crate) fn close(&mut self) {
        self.workers.close();
        self.clients.close();
    }
}

/// Takes requests up to the budget. Returns the rest of the budget.
fn fill(lane: &mut mpsc::Receiver<Sent>, taken: &mut VecDeque<Sent>, mut budget: Budget) -> Budget {
    while !budget.is_spent()
        && let Ok(sent) = lane.try_recv()
    {
        budget.spend(&sent.request);
        taken.push_back(sent);
    }
    budget
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Answer;

    /// How many requests of workers and of clients one call takes of so many.
    async fn taken(workers: usize, clients: usize) -> (usize, usize) {
        let (sender, mut inbox) = inbox();
        for _ in 0..workers {
            let (answer, _) = Answer::new(None);
            let report = Request::Commands { commands: Vec::new(), answer };
            sender.send(report, MonoTime(0), Duration::ZERO).await.expect("there is room");
        }
        for _ in 0..clients {
            let raise = Request::RaiseLevel { level: 1, alone: false };
            sender.send(raise, MonoTime(0), Duration::ZERO).await.expect("there is room");
        }
        let mut taken = VecDeque::new();
        assert!(inbox.take(&mut taken, Budget { requests: 11, commands: 100, bytes: 100 }).await);
        let by_workers = taken.iter().filter(|sent| sent.by_worker.is_some()).count();
        (by_workers, taken.len() - by_workers)
    }

    #[tokio::test]
    async fn workers_have_half_of_the_budget_and_each_side_what_the_other_leaves() {
        assert_eq!(taken(20, 20).await, (6, 5));
        assert_eq!(taken(3, 20).await, (3, 8));
        assert_eq!(taken(20, 2).await, (9, 2));
        assert_eq!(taken(0, 20).await, (0, 11));
    }
}
