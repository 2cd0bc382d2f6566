//! The simulator: the shipped engine, several nodes of it, in a world that follows from one seed.
//!
//! Every machine has a runtime with a paused clock of its own; all of them run on one thread, a tick of
//! simulated time after the other ([`run()`]). Between them are a simulated network (`world`) and a
//! simulated store (`store`) that keeps the law of [`rota_store::Store`] and misbehaves as far as the
//! law allows. Clients and workers do what the API offers (`client`, `worker`), a plan drawn from the
//! seed says what goes wrong (`plan`, `faults`), and an auditor that shares no code with the core checks
//! at every step what must hold (`audit`).
//!
//! A run is as long as its events are many ([`Options::events`]). An event is a message that was delivered (a
//! call, an answer, a part of a stream, bytes of a connection), something that the store did or answered, a
//! timer that fired in a simulated client or worker (a pause, the end of a task's work), or a command that an
//! engine took (each task of a submission and each report for itself). Timers within the shipped parts are not
//! counted, nor what a batch changes.
//!
//! Same seed, same run, to the byte of its log. Nothing here decides anything about tasks.

mod audit;
mod call;
mod client;
mod faults;
mod log;
mod machine;
mod minimise;
mod plan;
#[cfg(feature = "planted-faults")]
pub mod planted;
mod rest;
mod run;
mod scenario;
mod seed;
mod store;
mod wire;
mod worker;
mod world;

pub use audit::{Counts, Rule, Violation};
pub use minimise::minimise;
pub use plan::{Fault, Planned, Ways};
pub use run::{Options, RunOutcome, run};

#[cfg(test)]
mod conformance_tests;
