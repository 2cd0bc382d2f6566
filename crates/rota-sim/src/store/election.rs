//! Who leads: candidates with leases in simulated time, and one seat.

use rota_store::{Epoch, Member, Seat, watch};
use tokio::sync::oneshot;

use crate::world::{Endpoint, Inner, STORE};

/// A named successor is waited for so long.
const PREFERENCE_US: u64 = 1_000_000;

/// Somebody who campaigns or leads.
struct Candidate {
    number: u64,
    member: Member,
    endpoint: Endpoint,
    expires_us: u64,
    /// Told when it wins.
    won: Option<oneshot::Sender<Epoch>>,
}

/// A process that wants to know who leads.
struct Observer {
    endpoint: Endpoint,
    incarnation: u32,
    told: Option<Seat>,
    sender: watch::Sender<Option<Seat>>,
}

/// What the store says of a lease when it is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The lease is over, or was never given.
    Gone,
    /// It waits for the seat.
    Waits,
    /// It has the seat.
    Leads(Epoch),
}

#[derive(Default)]
pub(crate) struct Election {
    candidates: Vec<Candidate>,
    newest: Epoch,
    /// Which candidate has the seat.
    seat: Option<u64>,
    /// Who is to have it next, until when.
    preferred: Option<(String, u64)>,
    observers: Vec<Observer>,
    numbers: u64,
}

impl Election {
    /// The epoch of who leads.
    pub(super) fn leading(&self) -> Option<Epoch> {
        self.seat.map(|_| self.newest)
    }

    pub(super) fn leader_place(&self) -> Option<Endpoint> {
        let number = self.seat?;
        self.candidates.iter().find(|one| one.number == number).map(|one| one.endpoint)
    }

    pub(super) fn newest(&self) -> Epoch {
        self.newest
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let mut members: Vec<_> = self.candidates.iter().map(|one| one.member.clone()).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members.dedup_by(|a, b| a.name == b.name);
        members
    }

    pub(super) fn announce_ready(&mut self, endpoint: Endpoint, name: &str, leadership: Epoch) {
        let mine = |one: &&mut Candidate| one.endpoint == endpoint && one.member.name == name;
        for one in self.candidates.iter_mut().filter(mine) {
            one.member.ready_for = leadership;
        }
    }

    fn now_seated(&self) -> Option<Seat> {
        let number = self.seat?;
        let leader = self.candidates.iter().find(|one| one.number == number)?;
        let member = Member { ready_for: Epoch(0), ..leader.member.clone() };
        Some(Seat { member, epoch: self.newest })
    }

    fn standing(&self, number: u64) -> Standing {
        if !self.candidates.iter().any(|one| one.number == number) {
            Standing::Gone
        } else if self.seat == Some(number) {
            Standing::Leads(self.newest)
        } else {
            Standing::Waits
        }
    }

    pub(super) fn observe(
        &mut self,
        endpoint: Endpoint,
        incarnation: u32,
        sender: watch::Sender<Option<Seat>>,
    ) {
        self.observers.push(Observer { endpoint, incarnation, told: None, sender });
    }

    /// The number for a new candidate.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// A candidate comes.
pub(super) fn enter(
    inner: &mut Inner,
    endpoint: Endpoint,
    number: u64,
    member: Member,
    won: oneshot::Sender<Epoch>,
) {
    let expires_us = inner.now_us + inner.store.limits.leader_ttl_us;
    let election = &mut inner.store.election;
    election.candidates.push(Candidate { number, member, endpoint, expires_us, won: Some(won) });
    inner.at(expires_us, Box::new(move |inner| expire(inner, number)));
    elect(inner);
}

/// A candidate or leader lives.
pub(super) fn keep_alive(inner: &mut Inner, number: u64) -> Standing {
    let expires_us = inner.now_us + inner.store.limits.leader_ttl_us;
    let election = &mut inner.store.election;
    if let Some(one) = election.candidates.iter_mut().find(|one| one.number == number) {
        one.expires_us = expires_us;
        inner.at(expires_us, Box::new(move |inner| expire(inner, number)));
    }
    inner.store.election.standing(number)
}

/// A candidate or leader goes.
pub(super) fn leave(inner: &mut Inner, number: u64, successor: Option<String>) {
    let election = &mut inner.store.election;
    election.candidates.retain(|one| one.number != number);
    if election.seat == Some(number) {
        election.seat = None;
        inner.note(format_args!("store seat free"));
        if let Some(name) = successor {
            let until_us = inner.now_us + PREFERENCE_US;
            inner.store.election.preferred = Some((name, until_us));
            inner.at(until_us, Box::new(elect));
        }
    }
    elect(inner);
}

/// Takes the seat from whoever has it, as a store does that forgets a lease.
pub(crate) fn depose(inner: &mut Inner) {
    if let Some(number) = inner.store.election.seat {
        leave(inner, number, None);
    }
}

fn expire(inner: &mut Inner, number: u64) {
    let now_us = inner.now_us;
    let over = |one: &Candidate| one.number == number && one.expires_us <= now_us;
    if inner.store.election.candidates.iter().any(over) {
        inner.note(format_args!("store lease {number} expired"));
        leave(inner, number, None);
    }
}

fn elect(inner: &mut Inner) {
    let now_us = inner.now_us;
    let election = &mut inner.store.election;
    if election.seat.is_none() {
        let preferred = election.preferred.take_if(|(_, until_us)| *until_us <= now_us);
        drop(preferred);
        let chosen = match &election.preferred {
            Some((name, _)) => election.candidates.iter_mut().find(|one| one.member.name == *name),
            None => election.candidates.first_mut(),
        };
        if let Some(chosen) = chosen {
            election.newest = Epoch(election.newest.0 + 1);
            election.seat = Some(chosen.number);
            election.preferred = None;
            let (endpoint, won, epoch) = (chosen.endpoint, chosen.won.take(), election.newest);
            inner.note(format_args!("store epoch {} to {}", epoch.0, endpoint.0));
            inner.audit.elected(now_us, epoch.0);
            if let Some(won) = won {
                let tell = move |_: &mut Inner| {
                    // One who gave up meanwhile has sent word of that.
                    let _ = won.send(epoch);
                };
                inner.send(STORE, endpoint, Box::new(tell));
            }
        }
    }
    tell_observers(inner);
}

/// Tells those who have not heard the latest who leads, as far as they can be reached.
pub(crate) fn tell_observers(inner: &mut Inner) {
    let seat = inner.store.election.now_seated();
    let mut observers = std::mem::take(&mut inner.store.election.observers);
    observers.retain(|observer| {
        let site = &inner.sites[observer.endpoint.0];
        site.up && site.incarnation == observer.incarnation && !observer.sender.is_closed()
    });
    for observer in &mut observers {
        if observer.told == seat || !inner.net.carries(STORE, observer.endpoint) {
            continue;
        }
        observer.told.clone_from(&seat);
        let (sender, seat) = (observer.sender.clone(), seat.clone());
        let tell = move |_: &mut Inner| {
            sender.send_if_modified(|known| {
                let changed = *known != seat;
                *known = seat;
                changed
            });
        };
        inner.send(STORE, observer.endpoint, Box::new(tell));
    }
    inner.store.election.observers = observers;
}
