//! The tests of schedules: a [`clockwork::Clockwork`] that drives the machine over dates, crashes and ends of tasks,
//! tables for what each rule promises, and random lives against a walker by brute force.

mod backfills;
mod census;
mod clockwork;
mod coming;
mod commands;
mod crashes;
mod late;
mod overlaps;
mod random;
mod walker;
