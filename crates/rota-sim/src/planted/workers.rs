//! Sessions of workers: healthy ones keep their leases, and get each of them once.

use rota_engine::Planted as P;

use super::{Find, faulty, plain};
use crate::audit::Rule as R;

pub(super) const LIST: &[Find] = &[
    plain(P::IgnoresHeartbeats, 200_000, &[R::Healthy]),
    faulty(P::HeartbeatsWait, 500_000, &[R::Signs]),
    faulty(P::DetachEndsSessions, 1_000_000, &[R::Healthy]),
    plain(P::DrainEndsSessions, 500_000, &[R::Healthy]),
    plain(P::IgnoresDrain, 200_000, &[R::Drain]),
    faulty(P::KeepsFormerChannel, 3_000_000, &[R::Progress, R::Lost]),
    faulty(P::ForgetsHeld, 100_000, &[R::Dispatch]),
    plain(P::LeasesTwice, 100_000, &[R::Dispatch]),
    plain(P::DropsDispatches, 200_000, &[R::Progress]),
    faulty(P::RepeatsUnreadable, 2_000_000, &[R::Progress]),
];
