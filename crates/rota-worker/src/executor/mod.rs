//! Executors: tasks that need no handler of their own.

pub mod command;
pub mod http;

mod keep;
