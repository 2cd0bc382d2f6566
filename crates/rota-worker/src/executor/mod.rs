//! Executors: handlers for commands and HTTP requests.

#[cfg(feature = "command")]
pub mod command;
#[cfg(feature = "http")]
pub mod http;

mod keep;
mod names;
mod template;
