//! The engine over the real embedded store, and over one that misbehaves on demand.

mod clocks;
mod cluster;
mod edits;
mod events;
mod failures;
mod faults;
mod life;
mod lists;
mod nights;
mod output;
mod pull;
mod reads;
mod schedules;
mod search;
mod sessions;
mod support;
mod tick_ids;
mod totals;
mod transfer;
mod versions;
