//! Keeps the log short: what is live in its oldest pieces is written again at its end, and the pieces go.
//!
//! The log is a ring, so to speak: the oldest piece always goes first. Hence a delete in the oldest piece need
//! not be kept, since nothing older is left that it could hide; and what is rewritten comes from pieces that were
//! written a whole round ago, when most of what they held is dead.
//!
//! The log grows to twice what is live, or to `log_bytes_min` if that is more. So in the long run at least half of
//! what goes is dead, and no more is rewritten than is written: each byte that is committed costs at most two that
//! Consul writes, and much less where tasks end soon. (When more than two fifths of `size_bytes_max` is live, the log
//! cannot grow to twice that, and more is rewritten: eight times as much at 70 %, when the store asks for no new work.)
//!
//! Each step is one transaction of the writer, between commits: at most [`STEP_BYTES`] are written, which takes
//! about as long as a commit of that size. Steps are made when no commit comes for a moment, and otherwise only if the
//! log is half as large again as it should be.

use std::{sync::Arc, time::Duration};

use super::{
    fault::Fault,
    layout::Tip,
    pen::{Pen, Written},
    piece::{Kind, Piece},
    replica,
    txn::{OPERATIONS_MAX, Operation},
};

/// What one step rewrites, unless a single piece has more.
const STEP_BYTES: u64 = 128 * 1024;

/// The pieces that one step lets go: each takes two operations at most.
const STEP_PIECES: usize = (OPERATIONS_MAX - 4) / 2;

/// However small they are, there are no more pieces than this: each costs Consul memory beside its bytes.
const PIECES_MAX: usize = 64 * 1024;

/// Steps between two commits, at most: so many free what the largest batch adds.
const STEPS_MAX: usize = 32;

/// When nothing was asked for in this time, there is nothing else to do.
const PAUSE: Duration = Duration::from_millis(20);

/// How much the log is beyond what it should be.
enum Excess {
    None,
    Some,
    /// Half as large again.
    Much,
}

fn excess(pen: &Pen) -> Excess {
    let min = pen.shared.options.log_bytes_min;
    let max = pen.shared.options.size_bytes_max;
    let excess = pen.shared.replica.with(|state| {
        // Near the limit of the size, more is rewritten to keep it.
        let aim = (2 * state.live()).max(min).min(max / 10 * 8);
        let (bytes, pieces) = (state.bytes(), state.pieces());
        if bytes > aim + aim / 2 || pieces > PIECES_MAX + PIECES_MAX / 2 {
            Excess::Much
        } else if bytes > aim || pieces > PIECES_MAX {
            Excess::Some
        } else {
            Excess::None
        }
    });
    excess.unwrap_or(Excess::None)
}

/// Makes a step if there is nothing else to do, or as many as it takes if the log is much too long.
pub(super) async fn clean(pen: &mut Pen, is_idle: bool) -> Result<(), Fault> {
    for _ in 0..STEPS_MAX {
        let is_due = match excess(pen) {
            Excess::None => false,
            Excess::Some => is_idle,
            Excess::Much => true,
        };
        if !is_due || !step(pen).await? || is_idle {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits until the next step, if there is anything to do.
pub(super) async fn pause(pen: &Pen) {
    if matches!(excess(pen), Excess::None) || pen.certain().is_none() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(PAUSE).await;
}

/// Whether letting go of what is dead would make room at all.
pub(super) fn helps(held: u64, live: u64, max: u64) -> bool {
    held > live + live / 10 && live < max / 10 * 9
}

/// Lets the oldest pieces go. Says whether any went.
pub(super) async fn step(pen: &mut Pen) -> Result<bool, Fault> {
    let Some(known) = pen.known.filter(|_| pen.certain().is_some()) else {
        return Ok(false);
    };
    let shared = Arc::clone(&pen.shared);
    let (layout, replica) = (&shared.layout, &shared.replica);
    let Some(oldest) = replica.with(|state| choose(state.oldest())) else { return Ok(false) };
    if oldest.is_empty() {
        return Ok(false);
    }
    let mut kept = Piece::new(Kind::Kept, known.tip.head());
    let living: Vec<u64> =
        oldest.iter().filter(|piece| piece.is_live).map(|piece| piece.number).collect();
    for number in living {
        let fetched = replica::fetch_pieces(&pen.link, layout, vec![number], 0).await?;
        for fetched in fetched {
            replica.with(|state| state.keep(number, &fetched.piece, &mut kept));
        }
    }
    let mut deletes = Vec::with_capacity(2 * oldest.len());
    for piece in &oldest {
        deletes.push(Operation::delete(&layout.piece(piece.number)));
        if let Some(id) = &piece.parts {
            deletes.push(Operation::delete_tree(&layout.parts_of(id)));
        }
    }
    let gone: u64 = oldest.iter().map(|piece| piece.bytes).sum();
    let tip = Tip {
        first: known.tip.first + oldest.len() as u64,
        last: known.tip.last + u64::from(!kept.records.is_empty()),
        bytes: known.tip.bytes.saturating_sub(gone),
        seals: known.tip.seals + 1,
        ..known.tip
    };
    let kept = (!kept.records.is_empty()).then(|| {
        let encoded = kept.encode();
        (kept, encoded)
    });
    let written = pen.write(known, tip, kept, &deletes).await?;
    Ok(matches!(written, Written::Landed(_)))
}

/// A piece that is to go.
struct Chosen {
    number: u64,
    bytes: u64,
    is_live: bool,
    parts: Option<String>,
}

/// The oldest pieces, as many as fit into a step.
fn choose<'a>(oldest: impl Iterator<Item = (u64, &'a super::state::Held)>) -> Vec<Chosen> {
    let mut live = 0;
    oldest
        .take(STEP_PIECES)
        .enumerate()
        .take_while(|(place, (_, held))| {
            live += held.live;
            *place == 0 || live <= STEP_BYTES
        })
        .map(|(_, (number, held))| Chosen {
            number,
            bytes: held.bytes,
            is_live: held.live > 0,
            parts: held.parts.as_ref().map(|parts| parts.id.clone()),
        })
        .collect()
}
