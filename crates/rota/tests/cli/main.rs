//! The command line as people and programs see it: the real binary against a real `rota dev`.
//!
//! Each test is a transcript, compared with the one that is kept beside it. What differs from run to
//! run (ids, dates, durations) is replaced by a word.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod away;
mod crontabs;
mod dev;
mod errors;
mod events;
mod hostile;
mod logs;
mod queues;
mod schedule;
mod schedules;
mod secrets;
mod settings;
mod shell;
mod stores;
mod tasks;
mod terminal;
mod tls;
mod workers;
