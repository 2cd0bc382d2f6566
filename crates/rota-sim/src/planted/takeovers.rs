//! What a change of leader and the store must not harm.

use rota_engine::Planted as P;

use super::{Find, StoreMistake, faulty, store};
use crate::audit::Rule as R;

pub(super) const LIST: &[Find] = &[
    faulty(P::KeepsEndedInCopy, 1_000_000, &[R::Ends, R::Lost]),
    faulty(P::MissesChanges, 1_000_000, &[R::Ends, R::Lost, R::Progress]),
    faulty(P::ForgetsPauses, 1_000_000, &[R::Order]),
    faulty(P::TrustsOldCopy, 2_000_000, &[R::Ends, R::Lost, R::Progress, R::Tokens]),
    faulty(P::ForgetsTasks, 300_000, &[R::Order, R::Progress, R::Lost, R::Reads]),
    faulty(P::TakesUnknownForLanded, 1_000_000, &[R::Lost, R::Dispatch]),
    faulty(P::TakesUnknownForLost, 5_000_000, &[R::Progress]),
    faulty(P::IgnoresFences, 1_000_000, &[R::Lost, R::Dispatch]),
    store(StoreMistake::IgnoresFences, 200_000, &[R::Fences]),
    store(
        StoreMistake::DropsWrites,
        300_000,
        &[R::Order, R::Ends, R::Lost, R::Progress, R::Tokens],
    ),
    store(StoreMistake::ReadsOld, 500_000, &[R::Reads, R::Names]),
];
