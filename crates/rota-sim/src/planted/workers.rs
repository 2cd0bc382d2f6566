//! Sessions of workers: healthy ones keep their leases, and get each of them once.

use rota_engine::Planted as P;

use super::{Find, faulty, plain};
use crate::audit::Rule as R;

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
    faulty(P::RepeatsUnreadable, 10_000_000, &[R::Progress]),
];
