//! Whether the store still has the batches that this process has seen in it.
//!
//! A replica that is promoted behind its master, a server that lost its file and one that cut off a torn file come back
//! with an older head. A batch that is missing ends the leadership of this process, and is told to operators with the number
//! of batches.
//!
//! The head does not show a loss once others have written more than was lost, and a batch of a former master can become known
//! after the new one was looked at. So batches are known by the leadership that wrote them, whose batches follow one another
//! without a gap. The store keeps where each leadership began and ended (`{rota}:past`, and for the last one the
//! head), written together with the batches. Every process remembers the same of what it has seen. It compares both on each
//! new connection, and about once a second (`observer.rs`).
//!
//! - A leadership that the store has: what goes beyond its end there is lost.
//! - One that the store has not, while those around it follow one another: all of it is lost.
//! - Else the store does not say: it keeps the last [`PAST_MAX`] leaderships, and versions of Rota that keep none may have
//!   led. Then only what goes beyond the head is lost for certain.
//!
//! A batch counts as lost only if the answer comes from the master of the term in which the batch was seen, or of a later one.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use redis::Value;

use super::{
    fault::Fault,
    position::{Left, Present, Stretch},
};
use crate::{
    model::{BatchSeq, Epoch, Head},
    store::LostBatches,
};

/// Leaderships that the store remembers (`commit.lua`), and each process.
const PAST_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    /// The newest number ever seen, of batches that are missing too.
    highest: BatchSeq,
    lost: Option<LostBatches>,
}

/// Batches of one leadership that were seen.
#[derive(Debug)]
struct Seen {
    /// Those that the store has, as far as is known.
    batches: Stretch,
    /// The newest term in which they were seen.
    term: u64,
    /// The count up to which the store was asked for them.
    checked: u64,
    /// The count up to which they were told as lost.
    told: u64,
}

/// What the store is asked for.
#[derive(Debug)]
pub(super) struct Question {
    sought: Vec<Stretch>,
    term: u64,
}

impl Question {
    /// The first leadership that matters for the answer; the script refuses 0.
    pub(super) fn from(&self) -> Epoch {
        self.sought.iter().map(|sought| sought.epoch).min().unwrap_or_default().max(Epoch(1))
    }
}

impl Lineage {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a batch, the last one of its leadership, that the master of that term has.
    pub(super) fn saw(&self, term: u64, batch: &Stretch) {
        let mut state = self.state();
        state.highest = state.highest.max(batch.last);
        if batch.count > 0 {
            state.note(term, batch);
        }
    }

    /// The newest batch that was seen and is not missing, and how many there were with it.
    pub(super) fn newest(&self) -> (Head, u64) {
        let state = self.state();
        let left = state.seen.iter().map(|seen| &seen.batches).filter(|one| one.last.0 > 0);
        let newest = left.max_by_key(|one| one.count);
        newest.map_or_else(Default::default, |newest| {
            (Head { epoch: newest.epoch, seq: newest.last }, newest.count)
        })
    }

    /// Whether nothing is known of a loss of that batch.
    pub(super) fn may_have(&self, batch: Head) -> bool {
        let state = self.state();
        let mut same = state.seen.iter().map(|seen| &seen.batches);
        let mut same = same.by_ref().filter(|one| one.epoch == batch.epoch).peekable();
        same.peek().is_none() || same.any(|one| one.last >= batch.seq)
    }

    /// The newest number that was ever seen: none up to it may be given to another batch.
    pub(super) fn highest(&self) -> BatchSeq {
        self.state().highest
    }

    pub(super) fn lost(&self) -> Option<LostBatches> {
        self.state().lost.clone()
    }

    /// Takes note of a failover before which this process saw nothing of the store.
    pub(super) fn may_have_lost(&self, at: u64) {
        let unknown = LostBatches {
            batches: None,
            maybe_more: true,
            since: moment(at),
            noticed: SystemTime::now(),
        };
        self.state().lost.get_or_insert(unknown).maybe_more = true;
    }

    /// What the master of that term is to be asked for: everything, or what was not asked for yet and the newest.
    pub(super) fn question(&self, term: u64, everything: bool) -> Question {
        let state = self.state();
        let newest = state.seen.iter().map(|seen| seen.batches.count).max();
        let sought = state.seen.iter().filter(|seen| {
            let is_due = seen.batches.count > seen.checked || newest == Some(seen.batches.count);
            seen.term <= term && (everything || is_due)
        });
        Question { sought: sought.map(|seen| seen.batches.clone()).collect(), term }
    }

    /// Judges the answer of `compare.lua` to that question. Returns what is newly found to be missing.
    pub(super) fn compare(
        &self,
        question: &Question,
        answer: Value,
    ) -> Result<Option<LostBatches>, Fault> {
        let present = Present::read(answer)?;
        let mut state = self.state();
        let mut missing = LostBatches {
            batches: Some(0),
            maybe_more: false,
            since: None,
            noticed: SystemTime::now(),
        };
        // Those of which nothing was told before, and when the last one landed that is left.
        let mut found: Vec<(&Stretch, Option<SystemTime>)> = Vec::new();
        for sought in &question.sought {
            let left = present.left_of(sought);
            let newly = state.settle(sought, &left);
            missing.batches = missing.batches.map(|batches| batches + newly);
            if newly > 0 {
                missing.maybe_more |= !left.is_sure;
                if newly == sought.count - left.count {
                    found.push((sought, moment(left.at)));
                }
            }
        }
        for (sought, _) in &found {
            let (before, are_all) = state.missing_before(sought, &present);
            missing.batches = missing.batches.map(|batches| batches + before);
            missing.maybe_more |= !are_all;
        }
        missing.since =
            found.iter().min_by_key(|(first, _)| first.begin()).and_then(|(_, since)| *since);
        for stretch in &present.stretches {
            state.highest = state.highest.max(stretch.last);
            let seen = state.note(question.term, stretch);
            seen.checked = seen.checked.max(stretch.count);
        }
        if missing.batches == Some(0) {
            return Ok(None);
        }
        state.add(&missing);
        Ok(Some(missing))
    }
}

impl State {
    fn note(&mut self, term: u64, batch: &Stretch) -> &mut Seen {
        let at = match self.seen.iter().rposition(|seen| seen.batches.is_of(batch)) {
            Some(at) => at,
            None => {
                if self.seen.len() >= PAST_MAX {
                    self.seen.remove(0);
                }
                self.seen.push(Seen { batches: batch.clone(), term, checked: 0, told: 0 });
                self.seen.len() - 1
            }
        };
        let seen = &mut self.seen[at];
        seen.term = seen.term.max(term);
        let known = &mut seen.batches;
        if known.holder.is_empty() {
            known.holder.clone_from(&batch.holder);
        }
        // Where the begin is not known, it is that of the first batch that was seen.
        known.begin = batch.begin.or(Some(known.begin()));
        if batch.count > known.count {
            (known.count, known.last, known.at) = (batch.count, batch.last, batch.at);
        }
        seen
    }

    /// Takes note of what is left of batches that were sought. Returns how many of them are newly found to be missing.
    fn settle(&mut self, sought: &Stretch, left: &Left) -> u64 {
        let Some(seen) = self.seen.iter_mut().find(|seen| seen.batches.is_of(sought)) else {
            return 0;
        };
        let newly = sought.count.saturating_sub(left.count.max(seen.told));
        seen.checked = left.count;
        if left.count < sought.count {
            seen.told = seen.told.max(sought.count);
            // Unless more were seen meanwhile: those are sought next.
            if seen.batches.count == sought.count {
                (seen.batches.count, seen.batches.last) = (left.count, left.last);
            }
        }
        newly
    }

    /// How many batches just before a lost leadership are missing, of leaderships that were not seen, and whether those are
    /// all.
    fn missing_before(&self, lost: &Stretch, present: &Present) -> (u64, bool) {
        let begin = lost.begin();
        let others = self.seen.iter().filter(|seen| !seen.batches.is_of(lost));
        let reached = others
            .map(|seen| seen.batches.count.max(seen.told).min(begin))
            .chain([present.count.min(begin)])
            .max()
            .unwrap_or_default();
        // A part of it is left, or those before it are known.
        let is_part = present.stretches.iter().any(|stretch| stretch.is_of(lost));
        let is_known = self.seen.iter().any(|seen| {
            let (known, reach) = (&seen.batches, seen.batches.count.max(seen.told));
            !known.is_of(lost) && known.begin() < begin && reach >= begin
        });
        if begin == 0 || is_part || is_known {
            return (0, true);
        }
        (begin - reached, present.count == 0)
    }

    fn add(&mut self, missing: &LostBatches) {
        let before = self.lost.take();
        self.lost = Some(LostBatches {
            batches: before
                .iter()
                .chain([missing])
                .filter_map(|lost| lost.batches)
                .reduce(|a, b| a + b),
            maybe_more: missing.maybe_more || before.as_ref().is_some_and(|lost| lost.maybe_more),
            ..missing.clone()
        });
    }
}

/// That many milliseconds after 1970; 0 for no time.
fn moment(at: u64) -> Option<SystemTime> {
    (at > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of a leadership: its epoch, how many came before them, and how many there are with the last one. Each
    /// number is a hundred more than the count, and the id of the holder is made of the epoch.
    fn batches(epoch: u64, begin: u64, count: u64) -> Stretch {
        Stretch {
            epoch: Epoch(epoch),
            holder: format!("h{epoch}"),
            begin: Some(begin),
            last: BatchSeq(count + 100),
            count,
            at: 0,
        }
    }

    fn text(text: &dyn ToString) -> Value {
        Value::BulkString(text.to_string().into_bytes())
    }

    /// An answer of the script, of a store with these leaderships.
    fn told(stretches: &[Stretch]) -> Value {
        let word =
            |stretch: &Stretch| stretch.begin.map_or(String::new(), |begin| begin.to_string());
        let entry = |stretch: &Stretch| {
            let fields = [
                ("holder", text(&stretch.holder)),
                ("begin", text(&word(stretch))),
                ("seq", text(&stretch.last)),
                ("count", text(&stretch.count)),
                ("at", text(&5)),
            ];
            let fields = fields.into_iter().flat_map(|(name, value)| [text(&name), value]);
            Value::Array(vec![
                text(&format!("{}-0", stretch.epoch)),
                Value::Array(fields.collect()),
            ])
        };
        let (head, past) =
            stretches.split_last().map_or((None, &[][..]), |(head, past)| (Some(head), past));
        let head = head.cloned().unwrap_or_default();
        let by = head
            .begin
            .map_or(String::new(), |begin| format!("{} {} {begin}", head.epoch, head.holder));
        let position = [
            text(&head.epoch),
            text(&head.last),
            text(&0),
            text(&head.count),
            text(&7),
            text(&0),
            text(&""),
            text(&by),
        ];
        Value::Array(vec![
            Value::Array(position.into()),
            Value::Array(past.iter().map(entry).collect()),
        ])
    }

    /// What a process that has seen these misses in that store: how many, and whether it may be more.
    fn missing(seen: &[Stretch], store: &[Stretch]) -> Option<(u64, bool)> {
        let lineage = Lineage::default();
        for batches in seen {
            lineage.saw(0, batches);
        }
        let lost = look(&lineage, store);
        assert_eq!(lineage.lost().as_ref().and_then(number), lost);
        assert_eq!(look(&lineage, store), None, "it is told once");
        lost
    }

    fn look(lineage: &Lineage, store: &[Stretch]) -> Option<(u64, bool)> {
        look_in(0, lineage, store)
    }

    fn look_in(term: u64, lineage: &Lineage, store: &[Stretch]) -> Option<(u64, bool)> {
        let question = lineage.question(term, true);
        lineage.compare(&question, told(store)).expect("it is read").as_ref().and_then(number)
    }

    fn number(lost: &LostBatches) -> Option<(u64, bool)> {
        lost.batches.map(|batches| (batches, lost.maybe_more))
    }

    #[test]
    fn missing_batches_are_counted() {
        let seen = [batches(2, 0, 80), batches(3, 80, 90)];
        let [first, whole] = seen.clone();
        assert_eq!(missing(&seen, &seen), None);
        assert_eq!(missing(&seen, &[first.clone(), batches(3, 80, 120)]), None);
        assert_eq!(missing(&seen, &[first.clone(), batches(3, 80, 85)]), Some((5, false)));
        assert_eq!(missing(&seen, &[]), Some((90, false)));
        // Others have written since: less, as much, and more.
        for count in [86, 90, 900] {
            let others = [first.clone(), batches(3, 80, 83), batches(1 << 32, 83, count)];
            assert_eq!(missing(&seen, &others), Some((7, false)), "{count}");
            let others = [batches(2, 0, 78), batches(1 << 32, 78, count)];
            assert_eq!(missing(&seen, &others), Some((12, false)), "{count}");
        }
        // The epoch was given out again.
        let again = Stretch { holder: "other".to_owned(), ..whole };
        assert_eq!(missing(&seen, &[first.clone(), again]), Some((10, false)));
        // A leadership of before, which did not hear that another came, led on after the loss.
        assert_eq!(missing(&seen, &[batches(2, 0, 85)]), Some((10, false)));
        assert_eq!(missing(&seen, &[batches(2, 0, 85), batches(4, 85, 99)]), Some((10, false)));
    }

    #[test]
    fn a_loss_is_told_however_late_a_lost_batch_becomes_known() {
        let lineage = Lineage::default();
        lineage.saw(0, &batches(2, 0, 100));
        let mut store = vec![batches(2, 0, 97)];
        assert_eq!(look_in(1, &lineage, &store), Some((3, false)));
        // The former master answers late, and the new one has more already.
        lineage.saw(0, &batches(2, 0, 101));
        store.push(batches(9, 97, 300));
        lineage.saw(1, &batches(9, 97, 300));
        assert_eq!(look_in(1, &lineage, &store), Some((1, false)));
        // A whole leadership in the former master.
        lineage.saw(0, &batches(3, 101, 104));
        assert_eq!(look_in(1, &lineage, &store), Some((3, false)));
        assert_eq!(look_in(1, &lineage, &store), None);
        assert_eq!(lineage.lost().as_ref().and_then(number), Some((7, false)));
        assert_eq!(lineage.newest(), (Head { epoch: Epoch(9), seq: BatchSeq(400) }, 300));
        assert_eq!(lineage.highest(), BatchSeq(400));
        assert!(!lineage.may_have(Head { epoch: Epoch(2), seq: BatchSeq(198) }));
        assert!(lineage.may_have(Head { epoch: Epoch(2), seq: BatchSeq(197) }));
    }

    #[test]
    fn batches_that_came_while_the_store_was_asked_are_not_missed() {
        let lineage = Lineage::default();
        lineage.saw(0, &batches(2, 0, 100));
        let question = lineage.question(0, false);
        lineage.saw(0, &batches(2, 0, 101));
        lineage.saw(0, &batches(3, 101, 102));
        let found = lineage.compare(&question, told(&[batches(2, 0, 100)])).expect("it is read");
        assert_eq!(found, None);
        // Nor are those of a new master missed in the former one.
        lineage.saw(1, &batches(9, 102, 110));
        assert_eq!(look_in(0, &lineage, &[batches(2, 0, 101), batches(3, 101, 102)]), None);
    }

    #[test]
    fn what_the_store_tells_of_former_leaderships_counts_as_seen() {
        let lineage = Lineage::default();
        let store = [batches(2, 0, 80), batches(3, 80, 90), batches(4, 90, 95)];
        assert_eq!(look(&lineage, &store), None);
        assert_eq!(look(&lineage, &[batches(2, 0, 70), batches(9, 70, 400)]), Some((25, false)));
    }

    #[test]
    fn what_nobody_can_know_is_told_as_a_minimum() {
        // Nobody here has seen who led between the two.
        let seen = [batches(2, 0, 80), batches(5, 90, 95)];
        assert_eq!(missing(&seen, &[batches(2, 0, 70), batches(9, 70, 400)]), Some((15, true)));
        assert_eq!(missing(&seen, &[batches(2, 0, 85)]), Some((10, true)));
        assert_eq!(missing(&seen, &[]), Some((95, false)));
        // The store has forgotten who led.
        assert_eq!(missing(&seen, &[batches(50, 300, 400)]), None);
        // A version of Rota led that does not write down who it was.
        let unknown = |epoch, count| Stretch {
            holder: String::new(),
            begin: None,
            ..batches(epoch, 0, count)
        };
        assert_eq!(missing(&[batches(2, 0, 80), unknown(3, 90)], &[unknown(3, 95)]), None);
        assert_eq!(missing(&[unknown(3, 90)], &[unknown(3, 85)]), Some((5, false)));
        assert_eq!(
            missing(&[unknown(3, 90)], &[unknown(3, 85), batches(4, 85, 99)]),
            Some((5, false))
        );
        assert_eq!(missing(&[batches(2, 0, 80)], &[unknown(7, 300)]), None);
        assert_eq!(missing(&[unknown(3, 90)], &[batches(4, 95, 99)]), None);
    }

    #[test]
    fn a_number_is_a_minimum_where_an_unknown_loss_came_before() {
        let lineage = Lineage::default();
        lineage.may_have_lost(9);
        let lost = lineage.lost().expect("a loss");
        assert_eq!((lost.batches, lost.maybe_more), (None, true));
        lineage.saw(0, &batches(2, 0, 90));
        assert_eq!(look(&lineage, &[batches(2, 0, 85)]), Some((5, false)));
        assert_eq!(lineage.lost().as_ref().and_then(number), Some((5, true)));
        assert!(lineage.lost().expect("a loss").since.is_some());
    }
}
