//! A listener to the output of a task.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{AttemptRecord, Name, Status};
use rota_store::StoreError;
use tokio::time::{Instant, timeout_at};

use super::{
    hub::{self, OutputHub, Read, Seat},
    place::OutputPlace,
};
use crate::{engine::Inner, records::Attempt};

/// Time for a worker to send what it has kept, before a listener is told that it has everything that is known.
const ANSWER: Duration = Duration::from_secs(5);

/// What a listener is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputTold {
    /// The output of another attempt begins, on this worker.
    Attempt { worker: Option<Name> },
    /// A piece of the output of the current attempt.
    Output { offset: u64, bytes: Bytes },
    /// Output of the current attempt is missing: so many bytes, if it is known.
    Gap { missing: Option<u64>, reason: GapReason },
    /// The worker sends the output of the current attempt only when the attempt ends.
    AtEnd,
    /// Everything was told that was known when the listener came.
    Ready,
    /// There will be no more output here.
    Ended(OutputEnd),
}

/// Why output is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The listener, or the way from the worker, is slower than the output.
    TooSlow,
    /// Only the end of the output was kept.
    NotKept,
}

impl GapReason {
    /// The word for the reason, as clients see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooSlow => "too_slow",
            Self::NotKept => "not_kept",
        }
    }
}

/// Why there will be no more output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputEnd {
    /// The task has ended.
    Task(Status),
    /// The listener wanted only what is known now.
    UpToDate,
    /// This node is no longer the leader.
    LeaderChanged,
    /// The store did not answer, so earlier output could not be read.
    StoreUnavailable,
}

impl OutputEnd {
    /// The word for the reason, as clients see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task(_) => "task_ended",
            Self::UpToDate => "up_to_date",
            Self::LeaderChanged => "leader_changed",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

/// What a listener begins with.
#[derive(Debug)]
pub(super) struct Beginning {
    /// The place after which it goes on.
    pub(super) place: OutputPlace,
    /// Number of the attempt of the place.
    pub(super) attempt: u32,
    /// Attempts that have ended before, whose records are to be shown.
    pub(super) earlier: Range<u32>,
    /// The last attempt, if its record is that of the task.
    pub(super) last: Option<AttemptRecord>,
    /// The status of the task, if it has ended.
    pub(super) ended: Option<Status>,
    pub(super) follow: bool,
    /// Bytes of output that records keep.
    pub(super) tail_bytes: usize,
}

/// A listener. Dropping it ends it.
pub struct OutputListener {
    inner: Arc<Inner>,
    seat: Seat,
    begin: Beginning,
    /// Up to here everything was told.
    place: OutputPlace,
    /// Number of the attempt of the place.
    attempt: u32,
    ready: VecDeque<(OutputPlace, OutputTold)>,
    /// The end of the wait for the worker's first output.
    awaits_until: Instant,
    was_ready: bool,
    /// The lease of the attempt whose output comes at its end, as was told.
    at_end: u64,
    is_over: bool,
}

impl std::fmt::Debug for OutputListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputListener").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for OutputListener {
    fn drop(&mut self) {
        self.hub().left(&self.seat);
    }
}

impl OutputListener {
    /// Takes the seat at once, so that it is given back whatever follows.
    pub(super) fn new(inner: Arc<Inner>, seat: Seat) -> Self {
        let begin = Beginning {
            place: OutputPlace::default(),
            attempt: 0,
            earlier: 0..0,
            last: None,
            ended: None,
            follow: true,
            tail_bytes: 0,
        };
        Self {
            inner,
            seat,
            begin,
            place: OutputPlace::default(),
            attempt: 0,
            ready: VecDeque::new(),
            awaits_until: Instant::now() + ANSWER,
            was_ready: false,
            at_end: 0,
            is_over: false,
        }
    }

    pub(super) fn begin(&mut self, begin: Beginning) {
        (self.place, self.attempt) = (begin.place, begin.attempt);
        self.begin = begin;
    }

    fn hub(&self) -> &OutputHub {
        &self.inner.shared.output
    }

    /// The place to go on after: everything up to it was told.
    #[must_use]
    pub fn place(&self) -> OutputPlace {
        self.place
    }

    /// Number of the attempt that what was told last is about. 0 if there was none.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What comes next. After [`OutputTold::Ended`] it never resolves. Cancel safe.
    pub async fn next(&mut self) -> OutputTold {
        if self.is_over {
            std::future::pending::<()>().await;
        }
        loop {
            if let Some((place, told)) = self.ready.pop_front() {
                self.place = place;
                return told;
            }
            if !self.begin.earlier.is_empty() {
                if self.read_earlier().await.is_err() {
                    return self.over(OutputEnd::StoreUnavailable);
                }
                continue;
            }
            let was_told = self.at_end == self.place.lease;
            match self.hub().read(&self.seat, self.place, was_told) {
                Read::Nothing(is_known) => {
                    if !self.was_ready && (is_known || self.begin.ended.is_some()) {
                        return self.up_to_date();
                    }
                    if self.progress().await.is_err() {
                        return self.up_to_date();
                    }
                }
                read => return self.take(read),
            }
        }
    }

    /// Waits for more. Fails if the worker was not heard of in time.
    async fn progress(&mut self) -> Result<(), tokio::time::error::Elapsed> {
        let changed = self.seat.progress.changed();
        // It fails when the leadership has ended, which the next read tells.
        let _ = if self.was_ready {
            changed.await
        } else {
            timeout_at(self.awaits_until, changed).await?
        };
        Ok(())
    }

    /// Everything that was known is told.
    fn up_to_date(&mut self) -> OutputTold {
        self.was_ready = true;
        match self.begin.ended {
            Some(status) => self.over(OutputEnd::Task(status)),
            None if !self.begin.follow => self.over(OutputEnd::UpToDate),
            None => OutputTold::Ready,
        }
    }

    fn over(&mut self, end: OutputEnd) -> OutputTold {
        self.is_over = true;
        OutputTold::Ended(end)
    }

    fn take(&mut self, read: Read) -> OutputTold {
        match read {
            Read::Output(bytes) => {
                let offset = self.place.offset;
                self.place.offset += bytes.len() as u64;
                OutputTold::Output { offset, bytes }
            }
            Read::Gap(offset) => {
                let missing = offset.map(|offset| offset - self.place.offset);
                self.place.offset = offset.unwrap_or(OutputPlace::after(0).offset);
                OutputTold::Gap { missing, reason: GapReason::TooSlow }
            }
            Read::Attempt(hub::Attempt { lease, number, worker }) => {
                (self.place, self.attempt) = (OutputPlace { lease, offset: 0 }, number);
                OutputTold::Attempt { worker }
            }
            Read::AtEnd => {
                self.at_end = self.place.lease;
                OutputTold::AtEnd
            }
            Read::Ended(status) => self.over(OutputEnd::Task(status)),
            Read::Over | Read::Nothing(_) => self.over(OutputEnd::LeaderChanged),
        }
    }

    /// Reads the record of the next earlier attempt.
    async fn read_earlier(&mut self) -> Result<(), StoreError> {
        let attempt = self.begin.earlier.start;
        let Inner { store, shared, .. } = self.inner.as_ref();
        let key = (self.seat.task, attempt);
        // An attempt without output may have no record of its own.
        let stored = shared.records.one::<Attempt>(store.as_ref(), &key).await?.record();
        let last = self.begin.last.take_if(|last| last.attempt == attempt);
        self.begin.earlier.start += 1;
        if let Some(record) = stored.or(last)
            && record.token.0 >= self.place.lease
        {
            self.attempt = record.attempt;
            self.ready = earlier(self.place, &record, self.begin.tail_bytes);
        }
        Ok(())
    }
}

/// What is told of an attempt that has ended, after a place. Of a tail that is shorter than what records keep, each
/// byte has its place in the output. Of a longer one the beginning is lost, and with it the places.
fn earlier(
    place: OutputPlace,
    record: &AttemptRecord,
    tail_bytes: usize,
) -> VecDeque<(OutputPlace, OutputTold)> {
    let mut told = VecDeque::new();
    let lease = record.token.0;
    let end = OutputPlace::after(lease);
    if place >= end {
        return told;
    }
    let mut begin = place;
    if place.lease < lease {
        begin = OutputPlace { lease, offset: 0 };
        let worker = Some(record.worker.clone());
        told.push_back((begin, OutputTold::Attempt { worker }));
    }
    let tail = &record.output_tail;
    let is_whole = tail.len() < tail_bytes;
    let passed = usize::try_from(begin.offset).ok();
    let passed = passed.filter(|passed| is_whole && *passed <= tail.len());
    if passed.is_none() {
        let gap = OutputTold::Gap { missing: None, reason: GapReason::NotKept };
        told.push_back((begin, gap));
    }
    let passed = passed.unwrap_or(0);
    let bytes = tail.slice(passed..);
    if !bytes.is_empty() {
        let offset = passed as u64;
        told.push_back((end, OutputTold::Output { offset, bytes }));
    }
    if let Some((place, _)) = told.back_mut() {
        *place = end;
    }
    told
}

#[cfg(test)]
mod tests {
    use rota_core::{LeaseToken, WallTime};

    use super::*;

    fn record(tail: &'static str) -> AttemptRecord {
        AttemptRecord {
            attempt: 1,
            token: LeaseToken(2),
            worker: Name::new("w").expect("a name"),
            assigned_at: WallTime(0),
            started_at: None,
            ended_at: None,
            failure: None,
            snoozed_until: None,
            output_tail: Bytes::from_static(tail.as_bytes()),
            unknown: Bytes::new(),
        }
    }

    fn told(lease: u64, offset: u64, tail: &'static str) -> Vec<OutputTold> {
        let told = earlier(OutputPlace { lease, offset }, &record(tail), 8);
        assert!(told.back().is_none_or(|(place, _)| *place == OutputPlace::after(2)));
        told.into_iter().map(|(_, told)| told).collect()
    }

    fn output(offset: u64, text: &'static str) -> OutputTold {
        OutputTold::Output { offset, bytes: Bytes::from_static(text.as_bytes()) }
    }

    const GAP: OutputTold = OutputTold::Gap { missing: None, reason: GapReason::NotKept };

    #[test]
    fn of_an_earlier_attempt_the_kept_end_is_told_once() {
        let begins = OutputTold::Attempt { worker: Name::new("w").ok() };
        assert_eq!(told(1, 5, "abc"), [begins.clone(), output(0, "abc")]);
        assert_eq!(told(2, 2, "abc"), [output(2, "c")], "the rest after the place");
        assert_eq!(told(2, 3, "abc"), []);
        assert_eq!(told(2, u64::MAX, "abc"), []);
        assert_eq!(told(3, 0, "abc"), []);
        assert_eq!(told(1, 0, ""), std::slice::from_ref(&begins));
        // The beginning is lost.
        assert_eq!(told(1, 0, "12345678"), [begins, GAP, output(0, "12345678")]);
        assert_eq!(told(2, 20, "12345678"), [GAP, output(0, "12345678")]);
        assert_eq!(told(2, 4, "abc"), [GAP, output(0, "abc")], "another attempt of this number");
    }
}
