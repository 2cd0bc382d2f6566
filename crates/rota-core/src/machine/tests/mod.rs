//! The machine's tests: a [`world::World`] that drives it as the engine does, an auditor that looks
//! at every step, tables for what each part promises, and random lives of whole worlds.

mod audit;
mod books;
mod counts;
mod editing;
mod expect;
mod lifecycle;
mod names;
mod pages;
mod queries;
mod random;
mod restart;
mod say;
mod schedules;
mod sessions;
mod sharing;
mod store;
mod time;
mod world;
