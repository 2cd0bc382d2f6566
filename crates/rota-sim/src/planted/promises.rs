//! What is promised to clients: what was acknowledged is durable, what they asked for is done, what they
//! are told is true.

use rota_engine::Planted as P;

use super::{Find, faulty, plain, rare, when};
use crate::{audit::Rule as R, plan::Fault as F};

pub(super) const LIST: &[Find] = &[
    plain(P::ReleasesEarly, 20_000, &[R::Lost, R::Dispatch, R::Reports, R::Reads]),
    faulty(P::AnswersQuestionsEarly, 500_000, &[R::Reads]),
    plain(P::AnswersPausesEarly, 100_000, &[R::Lost, R::Unchanged, R::Reads]),
    faulty(P::AnswersCancelsEarly, 100_000, &[R::Lost, R::Unchanged]),
    plain(P::LosesReports, 20_000, &[R::Reports]),
    plain(P::DropsResults, 20_000, &[R::Lost]),
    plain(P::KeepsNames, 150_000, &[R::Names]),
    faulty(P::ForgetsNames, 800_000, &[R::Names, R::Lost]),
    plain(P::KeepsFreeIds, 1_000_000, &[R::Names]),
    rare(P::PurgesBlindly, 2_000_000, &[R::Lost]),
    plain(P::RetriesOnceMore, 50_000, &[R::Asked]),
    plain(P::InvertsPriorities, 20_000, &[R::Asked]),
    plain(P::RunsExpired, 20_000, &[R::Asked]),
    plain(P::IgnoresBackoff, 20_000, &[R::Dates]),
    plain(P::RunsEarly, 20_000, &[R::Dates]),
    plain(P::SnoozesSpend, 200_000, &[R::Asked]),
    plain(P::SnoozesEndEarly, 200_000, &[R::Dates]),
    plain(P::SnoozesLeaveNoRecord, 200_000, &[R::Lost]),
    plain(P::EditsIgnoreVersions, 200_000, &[R::Versions]),
    faulty(P::AnswersEditsEarly, 1_000_000, &[R::Lost, R::Versions, R::Unchanged]),
    plain(P::KeepsOldDefinitions, 200_000, &[R::Dispatch]),
    plain(P::DropsTimers, 50_000, &[R::Rest]),
    plain(P::LosesWakeUps, 200_000, &[R::Wakes]),
    plain(P::ListsLeaveOut, 500_000, &[R::Reads]),
    faulty(P::LiesAboutTimeouts, 800_000, &[R::Unchanged, R::Lost]),
    plain(P::CachesWithoutBound, 200_000, &[R::Memory]),
    when(P::TakesWithoutRoom, &[F::StoreStalls, F::ClientsFlood], 4_000_000, &[R::Memory]),
    when(P::StepsWithoutBound, &[F::StoreStalls, F::ClientsFlood], 2_000_000, &[R::Bounds]),
    plain(P::WritesCursorsLate, 200_000, &[R::Ticks]),
    faulty(P::NamesTicksByClock, 200_000, &[R::Ticks, R::Asked]),
    plain(P::LiesAboutChanges, 20_000, &[R::Unchanged]),
    plain(P::LiesAboutBulk, 100_000, &[R::Unchanged]),
];
