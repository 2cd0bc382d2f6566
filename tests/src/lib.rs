//! What the tests of real processes share: the `rota` binary as a process that can be killed and
//! started again ([`process`]), a whole [`cluster`] on hosts of its own ([`net`]) with any shared [`store`], what can go
//! wrong in it ([`fault`]) and why work may not come to its end ([`unfinished`]), the binary of an [`older`] version, a [`load`] that keeps books, a [`recorder`] of what is written
//! to the store, [`schedules`] with a tick each second, the judges of what was done ([`audit`]) and written ([`history`], [`ticks`]), their [`report`], and what a node says that was done ([`scrape`]).
//! And for what is made of that, a [`browser`], a [`book`] to compare with, a real [`prometheus`], the [`dashboards`],
//! and the expressions in both ([`promql`]).
//!
//! These tests look from outside, as a user does: they know the API and the command line, and
//! nothing of the inside. They need the binary beside them; `make test` sees to that.

pub mod audit;
pub mod book;
pub mod browser;
pub mod cluster;
pub mod dashboards;
pub mod expected_losses;
pub mod fault;
pub mod history;
pub mod load;
pub mod local_stores;
pub mod losses;
pub mod net;
pub mod older;
pub mod process;
pub mod prometheus;
pub mod promql;
pub mod pull_worker;
pub mod recorder;
pub mod report;
pub mod schedules;
pub mod scrape;
pub mod store;
pub mod ticks;
pub mod unfinished;
pub mod users;
