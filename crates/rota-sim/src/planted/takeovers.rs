//! What a change of leader and the store must not harm.

use rota_engine::Planted as P;

use super::{Find, StoreMistake, faulty, store, when};
use crate::{
    audit::Rule as R,
    plan::{Fault as F, LEADER},
};

pub(super) const LIST: &[Find] = &[
    faulty(P::KeepsEndedInCopy, 200_000, &[R::Ends, R::Lost, R::Dispatch, R::Reads, R::Bounds]),
    faulty(
        P::MissesChanges,
        200_000,
        &[R::Bounds, R::Ends, R::Lost, R::Progress, R::Dispatch, R::Reads, R::Order],
    ),
    faulty(P::ForgetsPauses, 2_000_000, &[R::Order, R::Reads]),
    faulty(
        P::TrustsOldCopy,
        3_000_000,
        &[
            R::Ends,
            R::Lost,
            R::Progress,
            R::Tokens,
            R::Dispatch,
            R::Reads,
            R::Bounds,
            R::Order,
            R::Ticks,
        ],
    ),
    faulty(
        P::ForgetsTasks,
        100_000,
        &[R::Order, R::Progress, R::Lost, R::Reads, R::Bounds, R::Dispatch],
    ),
    faulty(P::TakesUnknownForLanded, 300_000, &[R::Lost, R::Dispatch, R::Reports, R::Reads]),
    faulty(P::TakesUnknownForLost, 3_000_000, &[R::Progress]),
    faulty(P::IgnoresFences, 1_000_000, &[R::Lost, R::Dispatch, R::Reports, R::Reads]),
    when(P::BelievesJumps, &[F::NodeClockLeaps(LEADER, 40)], 2_000_000, &[R::Lost]),
    faulty(P::ForgetsCursors, 200_000, &[R::Ticks]),
    when(P::LosesMissedTicks, &[F::NodeClockJumps(LEADER, 20_000)], 1_000_000, &[R::Ticks]),
    when(P::DecidesByJumps, &[F::NodeClockLeaps(LEADER, 1)], 1_000_000, &[R::Dates, R::Ticks]),
    store(StoreMistake::IgnoresFences, 600_000, &[R::Fences]),
    store(
        StoreMistake::DropsWrites,
        150_000,
        &[R::Order, R::Ends, R::Lost, R::Progress, R::Tokens, R::Reads, R::Bounds, R::Dispatch],
    ),
    store(StoreMistake::ReadsOld, 100_000, &[R::Reads, R::Names]),
];
