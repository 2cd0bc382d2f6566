//! Executors: tasks that need no handler of their own.

#[cfg(feature = "command")]
pub mod command;
#[cfg(feature = "http")]
pub mod http;

mod keep;
