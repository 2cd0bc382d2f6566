//! The engine over the real embedded store, and over one that misbehaves on demand.

mod cluster;
mod faults;
mod life;
mod lists;
mod pull;
mod reads;
mod support;
mod totals;
