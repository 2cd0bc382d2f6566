//! Sessions of workers: healthy ones keep their leases, and get each of them once.

use rota_engine::Planted as P;

use super::{Find, faulty, plain, when};
use crate::{
    audit::Rule as R,
    plan::{Fault as F, LEADER, Ways},
};

pub(super) const LIST: &[Find] = &[
    plain(P::IgnoresHeartbeats, 500_000, &[R::Healthy]),
    faulty(P::HeartbeatsWait, 2_000_000, &[R::Signs]),
    faulty(P::DetachEndsSessions, 1_000_000, &[R::Healthy]),
    plain(P::DrainEndsSessions, 150_000, &[R::Healthy]),
    plain(P::IgnoresDrain, 150_000, &[R::Drain]),
    faulty(P::KeepsFormerChannel, 5_000_000, &[R::Progress, R::Lost]),
    faulty(P::ForgetsHeld, 200_000, &[R::Dispatch]),
    plain(P::LeasesTwice, 200_000, &[R::Dispatch]),
    plain(P::DropsDispatches, 400_000, &[R::Progress]),
    Find {
        // A pause that is longer than a session lives and shorter than a leadership, in which a worker is cut off.
        ttls_ms: Some((1_200, 6_000)),
        ..when(
            P::CountsPauses,
            &[F::NodePauses(LEADER), F::WorkerLosesNode(0, LEADER, Ways::There)],
            2_000_000,
            &[R::Healthy],
        )
    },
    Find {
        // Many tasks are given away after a stall, and one that is damaged is read together with others.
        cache_bytes: Some(0),
        ..when(P::RepeatsUnreadable, &[F::StoreStalls, F::StoreDamages], 2_000_000, &[R::Progress])
    },
    when(P::LeaksReads, &[F::StoreIsAway, F::StoreLosesAnswers], 2_000_000, &[R::Progress]),
];
