//! A recorder of all that is written to a shared store, from the first batch on and before anything is removed: what the
//! judge of [`crate::history`] hears.
//!
//! It reads as an operator can: `etcdctl watch`, the stream of batches in Redis, the log in Consul. It knows no more of
//! the inside than the documented layout, and of the records in it the few fields that say who has a task and how it
//! ended (`records`).

mod consul;
mod etcd;
mod records;
mod redis;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

pub use self::redis::log_of;
use crate::{
    history::{Revision, SeatChange},
    process::PATIENCE,
    store::{Backend, Store},
};

/// See the module. It ends when this is dropped.
#[derive(Debug)]
pub struct Recorder {
    book: Arc<Book>,
    task: JoinHandle<()>,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Book {
    pages: Mutex<Pages>,
    /// Up to where it was read: a revision of etcd, or the number of a batch.
    read: watch::Sender<i64>,
}

#[derive(Debug, Default)]
struct Pages {
    revisions: Vec<Revision>,
    /// Who took the seat, and when, where the revisions themselves do not say so.
    seats: Vec<Seat>,
    /// What was read, and is no longer there: each time that something was lost.
    dropped: Vec<Vec<Revision>>,
}

/// Somebody took the seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    /// When, as [`Revision::at`] tells it.
    at: i64,
    epoch: i64,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what was read, up to that place.
    fn add(&self, revisions: Vec<Revision>, read: i64) {
        self.pages().revisions.extend(revisions);
        self.read.send_replace(read);
    }

    fn saw_seat(&self, seat: Seat) {
        let mut pages = self.pages();
        if pages.seats.last() != Some(&seat) {
            pages.seats.push(seat);
        }
    }

    /// The last batch that was read.
    fn last(&self) -> Option<Revision> {
        self.pages().revisions.last().cloned()
    }

    /// Whether this batch was read, with the same number.
    fn has(&self, batch: &Revision) -> bool {
        let revisions = &self.pages().revisions;
        let found = revisions.binary_search_by_key(&batch.number, |revision| revision.number);
        found.is_ok_and(|at| revisions[at].head == batch.head)
    }

    /// The store no longer has what comes after that many batches.
    fn lose_after(&self, batches: i64) {
        let mut pages = self.pages();
        let left = pages.revisions.partition_point(|revision| revision.number <= batches);
        let dropped = pages.revisions.split_off(left);
        if !dropped.is_empty() {
            pages.dropped.push(dropped);
        }
    }
}

impl Recorder {
    /// Starts to record; the servers need not be there yet.
    #[must_use]
    pub fn start(store: &Store) -> Self {
        let book: Arc<Book> = Arc::default();
        let servers = || (0..store.servers.len()).map(|server| store.address(server)).collect();
        let task = match store.backend {
            Backend::Etcd | Backend::Etcd35 => {
                tokio::spawn(etcd::record(store.addresses(), Arc::clone(&book)))
            }
            Backend::Redis | Backend::ReplicatedRedis => {
                let place =
                    redis::Place { servers: servers(), sentinels: store.sentinel_addresses() };
                tokio::spawn(redis::record(place, Arc::clone(&book)))
            }
            Backend::Consul | Backend::ConsulWithShortSessions => {
                tokio::spawn(consul::record(servers(), Arc::clone(&book)))
            }
        };
        Self { book, task }
    }

    /// Waits until it has read so far: up to a revision of etcd, or a number of a batch.
    ///
    /// # Panics
    /// When it does not within a minute: what was missed would not be judged.
    pub async fn has_read(&self, place: i64) {
        let mut read = self.book.read.subscribe();
        let come = timeout(PATIENCE, read.wait_for(|read| *read >= place)).await;
        assert!(matches!(come, Ok(Ok(_))), "history stopped before {place}");
    }

    /// The number of the last batch that it has read; 0 for none.
    #[must_use]
    pub fn last_batch(&self) -> u64 {
        let pages = self.book.pages();
        pages.revisions.iter().rev().find_map(|revision| revision.head).map_or(0, |head| head.seq)
    }

    /// What was written so far and is still there, in order.
    #[must_use]
    pub fn revisions(&self) -> Vec<Revision> {
        let pages = self.book.pages();
        with_seats(pages.revisions.clone(), &pages.seats)
    }

    /// What was written and is no longer there: each time that something was lost, in order.
    #[must_use]
    pub fn dropped(&self) -> Vec<Vec<Revision>> {
        self.book.pages().dropped.clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Puts each seat where it was taken. A seat that was not seen was taken before its first batch.
fn with_seats(revisions: Vec<Revision>, seats: &[Seat]) -> Vec<Revision> {
    if revisions.iter().any(|revision| revision.seat.is_some()) {
        return revisions;
    }
    let held = |number, epoch| Revision {
        number,
        seat: Some(SeatChange::Held(epoch)),
        ..Revision::default()
    };
    let (mut all, mut seats) = (Vec::new(), seats.iter().copied().peekable());
    let mut newest = 0;
    for revision in revisions {
        let Some(head) = revision.head else { continue };
        let comes_first = |seat: &Seat| seat.at < revision.at || seat.epoch <= head.epoch;
        while let Some(seat) = seats.next_if(comes_first) {
            newest = seat.epoch;
            all.push(held(revision.number, seat.epoch));
        }
        if newest < head.epoch {
            newest = head.epoch;
            all.push(held(revision.number, head.epoch));
        }
        all.push(revision);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::HeadWrite;

    fn batch(at: i64, epoch: i64) -> Revision {
        let head = Some(HeadWrite { epoch, seq: 1, prev: 0, sealed: false });
        Revision { number: at, at, head, ..Revision::default() }
    }

    fn order(revisions: Vec<Revision>, seats: &[(i64, i64)]) -> Vec<(bool, i64)> {
        let seats: Vec<_> = seats.iter().map(|&(at, epoch)| Seat { at, epoch }).collect();
        let all = with_seats(revisions, &seats);
        let told = all.into_iter().map(|revision| match revision.seat {
            Some(SeatChange::Held(epoch)) => (true, epoch),
            _ => (false, revision.head.expect("a batch").epoch),
        });
        told.collect()
    }

    #[test]
    fn a_batch_of_another_branch_is_not_the_one_that_was_read() {
        let book = Book::default();
        book.add(vec![batch(1, 1), batch(2, 1), batch(3, 1)], 3);
        assert!(book.has(&batch(2, 1)));
        assert!(!book.has(&batch(3, 2)), "another leader wrote it");
        assert!(!book.has(&batch(4, 1)));
        book.lose_after(2);
        assert_eq!(book.last(), Some(batch(2, 1)));
        assert_eq!(book.pages().dropped, [[batch(3, 1)]]);
    }

    #[test]
    fn a_seat_comes_before_what_was_written_after_it() {
        let right = order(vec![batch(10, 1), batch(20, 1), batch(20, 2)], &[(5, 1), (20, 2)]);
        assert_eq!(right, [(true, 1), (false, 1), (false, 1), (true, 2), (false, 2)]);
        let stale = order(vec![batch(10, 1), batch(21, 1)], &[(5, 1), (20, 2)]);
        assert_eq!(stale, [(true, 1), (false, 1), (true, 2), (false, 1)]);
        let unseen = order(vec![batch(10, 1), batch(21, 2)], &[]);
        assert_eq!(unseen, [(true, 1), (false, 1), (true, 2), (false, 2)]);
    }
}
