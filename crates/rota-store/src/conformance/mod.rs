//! The conformance suite: tests of the contract of [`Store`] that every backend passes.
//!
//! The tests of a backend provide a way to open it, and get one test for each obligation:
//!
//! ```ignore
//! rota_store::conformance_tests!(MyFactory::new().await);
//! ```
//!
//! [`SlowStore`] is for tests of users of a store: it stalls by a plan, or on request.
//!
//! An obligation that panics is broken. It owns the data of its factory, so each one needs its own factory.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how an obligation says that it is broken"
)]

mod fences;
mod reads;
mod rig;
mod slow;
mod watches;
mod writes;

use std::{future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;

pub use self::{
    rig::SPACES,
    slow::{SlowStore, Stall, Stalled},
};
use crate::store::Store;

/// Opens a backend on its own data.
#[async_trait]
pub trait StoreFactory: Send + Sync {
    /// Opens a store with [`SPACES`] on the data of this factory: empty at first, later with the data of
    /// earlier stores, which are closed by then.
    async fn open(&self) -> Arc<dyn Store>;
}

/// A running obligation.
pub type Check<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// An obligation: its name, and the function that checks it.
pub type Obligation = (&'static str, fn(&dyn StoreFactory) -> Check<'_>);

/// Calls a macro with the name of every obligation, by module.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_obligation {
    ($call:ident! $(, $extra:expr)?) => {
        $crate::$call! { $($extra;)?
            fences: a_campaign_gives_a_new_epoch, a_second_campaign_waits_for_the_first,
                a_dropped_campaign_leaves_no_leader, a_dropped_leadership_frees_the_seat,
                an_earlier_epoch_cannot_write, a_later_epoch_that_nobody_has_cannot_write,
                a_resigned_leadership_cannot_write, no_epoch_before_reopening_can_write,
                epochs_grow_across_reopening, closing_ends_a_leadership, the_leader_is_known,
                members_are_those_who_campaign_or_lead, a_member_announces_that_it_is_ready, a_namesake_takes_no_member_away,
                a_named_successor_goes_first;
            writes: a_batch_survives_reopening, deletes_survive_reopening,
                a_long_history_survives_reopening, the_head_tells_the_last_batch,
                a_batch_out_of_order_changes_nothing,
                the_first_batch_of_a_leadership_may_leave_numbers_out, of_two_commits_with_one_number_one_lands,
                an_empty_batch_advances_the_head, the_last_change_to_a_key_wins,
                deleting_what_is_not_there_is_no_error, a_refused_mutation_refuses_its_batch,
                keys_have_limits, values_have_limits, batches_have_limits, a_large_batch_lands,
                a_batch_with_all_the_bytes_lands,
                big_values_come_back, a_cancelled_commit_is_told_by_the_head,
                a_closed_store_is_unavailable, the_status_tells_where_the_store_is;
            reads: a_get_sees_every_commit_before_it, values_come_in_the_order_asked_for,
                a_get_is_of_one_revision, spaces_are_apart, an_undeclared_space_is_refused,
                a_snapshot_does_not_move, a_snapshot_tells_its_revision,
                a_scan_in_pages_finds_each_key_once, a_scan_goes_both_ways,
                ranges_end_before_their_end, a_prefix_holds_its_keys_alone,
                keys_are_ordered_as_bytes, pages_of_big_values_end_early_but_never_empty,
                a_scan_is_whole_while_commits_go_on, large_values_among_small_ones_are_read_together;
            watches: a_watch_yields_every_batch_in_order, a_watch_yields_batches_whole,
                a_watch_begins_after_its_revision, a_slow_watch_misses_nothing_or_says_so,
                a_watch_of_forgotten_history_says_so, closing_ends_a_watch;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __obligation_list {
    ($($module:ident: $($name:ident),+;)+) => {
        /// All obligations.
        pub const OBLIGATIONS: &[Obligation] =
            &[$($((stringify!($name), |factory| Box::pin($module::$name(factory)))),+),+];
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __obligation_tests {
    ($factory:expr; $($module:ident: $($name:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let factory = $factory;
                $crate::conformance::check(stringify!($name), &factory).await;
            }
        )+)+
    };
}

/// Makes a `#[tokio::test]` for each obligation. The expression makes a new [`StoreFactory`], and can await.
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::for_each_obligation! { __obligation_tests!, $factory }
    };
}

crate::for_each_obligation! { __obligation_list! }

/// Checks the obligation with this name.
///
/// # Panics
///
/// When the backend breaks it, or there is no such obligation.
pub async fn check(name: &str, factory: &dyn StoreFactory) {
    let obligation = OBLIGATIONS.iter().find(|(known, _)| *known == name);
    obligation.unwrap_or_else(|| panic!("no obligation `{name}`")).1(factory).await;
}
