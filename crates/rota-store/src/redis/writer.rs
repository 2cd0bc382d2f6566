//! Commits, one after another, by one task: so a commit whose caller went away is still carried to its end, and a question
//! for the head waits until it is there.
//!
//! A batch is one script. It compares the leadership (epoch and the random id under which it was taken) and the head with
//! those that the batch was made for; where they hold, it writes everything, else it says what it found.
//!
//! A batch without an answer may still be on its way and land at any later time. Before anything else is done, the head is
//! *sealed*: a number in it grows, which every batch that was sent before expects to be less. Such a batch changes nothing when
//! it arrives. A batch of a leadership that has ended needs no seal, because epoch and id never come back.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Cmd, Value};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared, answer,
    connection::Connected,
    fault::{Fault, unexpected},
    layout::{self, Group},
    link::{Effect, Link},
    position::{Position, Stretch},
    script::Script,
    server::{Held, NUMBER_MAX},
};
use crate::{
    model::{Batch, BatchLimits, BatchSeq, Fence, Head, Mutation, Revision},
    store::{CommitError, StoreError},
};

/// A script holds up everybody else while it runs: these take some ten milliseconds.
pub(super) const LIMITS: BatchLimits =
    BatchLimits { mutations_max: 4000, bytes_max: 8 << 20, mutation_bytes: 64 };

/// How often one commit is tried on a head that turns out to be another than was known.
const ATTEMPTS: usize = 4;

/// Requests that wait for the writer, at most.
const QUEUE: usize = 64;

/// The slowest connection for which large batches get enough time, in bytes per second.
const SLOWEST_LINE: u64 = 128 * 1024;

/// How often the log is cut off.
const CUT: Duration = Duration::from_millis(250);

enum Request {
    Commit { fence: Fence, batch: Batch, reply: oneshot::Sender<Result<Revision, CommitError>> },
    Head { reply: oneshot::Sender<Result<Head, StoreError>> },
}

/// How to reach the writer.
#[derive(Clone)]
pub(super) struct Requests(mpsc::Sender<Request>);

impl Requests {
    pub(super) async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        let closed = || CommitError::Unavailable("the store is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Commit { fence, batch, reply }).await.map_err(|_| closed())?;
        // The writer finishes what it has taken up, unless it is dropped with its runtime.
        let dropped = || CommitError::Ambiguous("the store was closed meanwhile".to_owned());
        answer.await.map_err(|_| dropped())?
    }

    pub(super) async fn head(&self) -> Result<Head, StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Head { reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

/// See the module.
pub(super) struct Writer {
    shared: Arc<Shared>,
    link: Link,
    /// Where the head is, as far as is known from what was read or written last.
    known: Option<Position>,
    /// The leadership of a commit that got no answer, until it is settled.
    unsettled: Option<Held>,
    log: Log,
}

/// What became of a batch that Redis answered.
enum Outcome {
    Landed(Revision),
    Refused(Position),
}

impl Writer {
    /// Starts the task. It ends when the store closes.
    pub(super) fn start(shared: &Arc<Shared>) -> Requests {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let options = &shared.server.options;
        let writer = Self {
            link: Link::new(&shared.server).thorough(),
            known: None,
            unsettled: None,
            log: Log::new(options.history, options.history_bytes),
            shared: Arc::clone(shared),
        };
        shared.background.tasks.spawn(writer.run(receiver));
        Requests(sender)
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let shared = Arc::clone(&self.shared);
        loop {
            let request = tokio::select! {
                biased;
                () = shared.background.stop.cancelled() => return,
                request = requests.recv() => request,
            };
            // A caller that went away does not want to know; the outcome is kept for the next one.
            match request {
                Some(Request::Commit { fence, batch, reply }) => {
                    let outcome = self.commit(fence, &batch).await;
                    self.shared.background.note_commit(fence.epoch, &outcome);
                    let _ = reply.send(outcome);
                }
                Some(Request::Head { reply }) => {
                    let _ = reply.send(self.head().await);
                }
                None => return,
            }
        }
    }

    async fn commit(&mut self, fence: Fence, batch: &Batch) -> Result<Revision, CommitError> {
        let Some(held) = self.shared.server.held(fence.epoch) else {
            return Err(CommitError::Fenced { ours: fence.epoch });
        };
        let groups = self.check(batch).map_err(CommitError::Invalid)?;
        self.settle().await.map_err(Fault::before_commit)?;
        for _ in 0..ATTEMPTS {
            let position = match &self.known {
                Some(known) if admits(known.head, fence, batch.seq) => known.clone(),
                _ => {
                    let found = self.look().await.map_err(Fault::before_commit)?;
                    judge(&found, &held, batch.seq)?;
                    found
                }
            };
            match self.write(&held, batch, &groups, position).await {
                Ok(Outcome::Landed(revision)) => return Ok(revision),
                Ok(Outcome::Refused(found)) => judge(&found, &held, batch.seq)?,
                Err(fault) => return Err(fault.of_commit()),
            }
            // A loss that was found meanwhile ends the leadership.
            if self.shared.server.held(fence.epoch).is_none() {
                return Err(CommitError::Fenced { ours: fence.epoch });
            }
        }
        Err(CommitError::Unavailable("the head changes under every attempt".to_owned()))
    }

    /// The changes of the batch, if it keeps the limits.
    fn check<'a>(&self, batch: &'a Batch) -> Result<Vec<Group<'a>>, String> {
        let BatchLimits { mutations_max, bytes_max, .. } = LIMITS;
        let (mutations, bytes) = (batch.mutations.len(), batch.bytes());
        if !LIMITS.take(mutations, bytes) {
            return Err(format!(
                "{mutations} changes with {bytes} bytes; one batch takes {mutations_max} and {bytes_max}"
            ));
        }
        self.shared.server.layout.groups(batch)
    }

    async fn write(
        &mut self,
        held: &Held,
        batch: &Batch,
        groups: &[Group<'_>],
        position: Position,
    ) -> Result<Outcome, Fault> {
        let bytes = batch.bytes();
        let cut = self.log.cut(Instant::now());
        let sending = Duration::from_millis(bytes as u64 * 1000 / SLOWEST_LINE);
        let patience = self.shared.server.options.timeout + sending;
        let index = layout::index(groups);
        let server = &self.shared.server;
        let command = |connected: &Connected| {
            let mut call = connected.call(Script::Commit, &server.layout.root);
            call.arg(held.epoch.0).arg(&held.holder);
            let Position { head, sealed, .. } = &position;
            call.arg(head.epoch.0).arg(head.seq.0).arg(*sealed).arg(batch.seq.0);
            call.arg(cut.0).arg(held.term).arg(server.options.snapshot_bytes);
            call.arg(&index);
            add_groups(&mut call, groups);
            call
        };
        let answer = self.durably(held, patience, command).await;
        match answer.and_then(Answer::read) {
            Ok(Answer::Landed { count, begin }) => {
                let landed = Stretch {
                    epoch: held.epoch,
                    holder: held.holder.clone(),
                    begin: Some(begin),
                    last: batch.seq,
                    count,
                    at: 0,
                };
                server.lineage.saw(held.term, &landed);
                self.log.landed(Instant::now(), batch.seq, (bytes + index.len()) as u64);
                self.known = Some(position.followed_by(&landed));
                Ok(Outcome::Landed(Revision(batch.seq.0)))
            }
            Ok(Answer::Refused(found)) => {
                self.known = Some(found.clone());
                Ok(Outcome::Refused(found))
            }
            Err(fault) => {
                if fault.may_have_had_effect() {
                    self.known = None;
                    self.unsettled = Some(held.clone());
                }
                Err(fault)
            }
        }
    }

    /// One script that writes, and the wait until as many replicas have it as the options say.
    async fn durably(
        &self,
        held: &Held,
        patience: Duration,
        command: impl Fn(&Connected) -> Cmd,
    ) -> Result<Value, Fault> {
        let server = &self.shared.server;
        let connected = self.link.connected().await?;
        if connected.term != held.term {
            // Another server is the master now. It may lack what this leadership wrote, so what it
            // writes next must not look like the continuation.
            server.abandon(held.epoch);
            return Err(Fault::Refused("another server has become the master".to_owned()));
        }
        let (answer, connected) = self.link.request(patience, Effect::Once, command).await?;
        let options = &server.options;
        if let Err(fault) = connected.replicated(options, options.timeout).await {
            // The script was carried out, so whatever the fault says of itself, the effect is not known.
            let fault = Fault::Unknown(fault.reason());
            self.link.failed(&connected, &fault).await;
            return Err(fault);
        }
        Ok(answer)
    }

    /// Reads the leader and the head, as they are now.
    async fn look(&mut self) -> Result<Position, Fault> {
        let server = &self.shared.server;
        let (answer, connected) =
            self.link.ask(server.options.timeout, Script::Look, |_| {}).await?;
        let found = Position::read(answer)?;
        let (_, count) = server.lineage.newest();
        if found.count < count {
            // The data was changed under a connection that lasted: somebody flushed it, for example.
            self.link.renew().await?;
        }
        server.lineage.saw(connected.term, &found.stretch());
        self.known = Some(found.clone());
        Ok(found)
    }

    /// Makes sure that no commit without an answer can land any more; see the module.
    async fn settle(&mut self) -> Result<(), Fault> {
        let Some(held) = self.unsettled.clone() else { return Ok(()) };
        let server = &self.shared.server;
        if self.link.connected().await?.term == held.term {
            let command = |connected: &Connected| {
                let mut call = connected.call(Script::Seal, &server.layout.root);
                call.arg(held.epoch.0).arg(&held.holder);
                call
            };
            let patience = server.options.timeout;
            let found = Position::read(self.durably(&held, patience, command).await?)?;
            self.known = Some(found);
        }
        // Otherwise the server it was sent to is no master any more, and lets go of what it has.
        self.unsettled = None;
        Ok(())
    }

    async fn head(&mut self) -> Result<Head, StoreError> {
        self.shared.check_open()?;
        self.settle().await?;
        Ok(self.look().await?.head)
    }
}

/// Adds the number of groups, what each is and then all keys and values.
fn add_groups(call: &mut Cmd, groups: &[Group<'_>]) {
    call.arg(groups.len());
    for Group { space, puts, changes } in groups {
        call.arg(if *puts { "+" } else { "-" }).arg(space.name).arg(changes.len());
    }
    for change in groups.iter().flat_map(|group| &group.changes) {
        call.arg(&change.key()[..]);
        if let Mutation::Put { value, .. } = change {
            call.arg(&value[..]);
        }
    }
}

/// What the script says.
enum Answer {
    /// How many batches there are now, and how many came before the first one of this leadership.
    Landed {
        count: u64,
        begin: u64,
    },
    Refused(Position),
}

impl Answer {
    fn read(value: Value) -> Result<Self, Fault> {
        let mut parts = answer::list(value)?.into_iter();
        let mut next = || parts.next().ok_or_else(|| unexpected("nothing"));
        match answer::text(next()?)?.as_str() {
            "landed" => {
                let (count, begin) = (answer::number(next()?)?, answer::number(next()?)?);
                Ok(Self::Landed { count, begin })
            }
            "refused" => Ok(Self::Refused(Position::read(next()?)?)),
            other => Err(unexpected(other)),
        }
    }
}

/// Whether the batch of that number may come next. Numbers stay below those that readers of JSON round.
fn admits(head: Head, fence: Fence, seq: BatchSeq) -> bool {
    head.admits(fence.epoch, seq) && seq.0 < NUMBER_MAX
}

/// Says why a batch cannot land on what was found, if it can't.
fn judge(found: &Position, held: &Held, seq: BatchSeq) -> Result<(), CommitError> {
    let fence = Fence { epoch: held.epoch };
    if found.leader != (held.epoch, held.holder.clone()) {
        Err(CommitError::Fenced { ours: held.epoch })
    } else if !admits(found.head, fence, seq) {
        Err(CommitError::OutOfOrder { got: seq, head: found.head })
    } else {
        Ok(())
    }
}

/// What of the log this leader knows, to cut it off.
struct Log {
    history: Duration,
    bytes_max: u64,
    /// When a batch landed, its number, and the bytes of all batches up to it.
    batches: VecDeque<(Instant, BatchSeq, u64)>,
    bytes: u64,
    next_cut: Option<Instant>,
}

impl Log {
    fn new(history: Duration, bytes_max: u64) -> Self {
        Self { history, bytes_max, batches: VecDeque::new(), bytes: 0, next_cut: None }
    }

    fn landed(&mut self, now: Instant, seq: BatchSeq, bytes: u64) {
        self.bytes += bytes;
        self.batches.push_back((now, seq, self.bytes));
    }

    /// The number before which batches need not be kept; 0 for none. The last batch is always kept.
    fn cut(&mut self, now: Instant) -> BatchSeq {
        if self.next_cut.is_some_and(|next| now < next) {
            return BatchSeq(0);
        }
        self.next_cut = Some(now + CUT);
        let mut cut = BatchSeq(0);
        while self.batches.len() > 1
            && let Some((at, _, bytes)) = self.batches.front()
            && (now.duration_since(*at) > self.history || self.bytes - bytes > self.bytes_max)
        {
            self.batches.pop_front();
            cut = self.batches[0].1;
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_cut_by_age_and_by_bytes_but_for_its_last_batch() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut log = Log::new(Duration::from_secs(60), 100);
        for number in 1..=10 {
            log.landed(at(number), BatchSeq(number), 10);
        }
        assert_eq!(log.cut(at(10)), BatchSeq(0));
        log.landed(at(11), BatchSeq(11), 90);
        assert_eq!(log.cut(at(11)), BatchSeq(9));
        assert_eq!(log.cut(at(11)), BatchSeq(0), "not so often");
        assert_eq!(log.cut(at(200)), BatchSeq(11));
        assert_eq!(log.cut(at(300)), BatchSeq(0));
    }
}
