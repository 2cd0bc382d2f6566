//! The web page of a node. It is a client of the API: it can do nothing that the API cannot.
//!
//! [`Dashboard`] answers the requests below `/ui/`. Each page asks the node's own API in process ([`Api`]), through the
//! same gateway as every other request. So a follower forwards to the leader, and access rules and limits hold here as
//! well. This crate knows the contract (`rota-proto`), and neither the engine nor the server.
//!
//! - `dashboard` finds the page of a request, and checks who asks (`session`, `origin`).
//! - `pages` has one module for each page, `parts` what pages are made of, and `layout` the frame around them.
//! - `live` tells open pages what changed.
//! - `memory` has what a node remembers between pages: `counts` and `pulse`.
//! - `assets` serves the style sheet and the script. Pages work without the script.

mod answer;
#[cfg(test)]
mod apart;
mod api;
mod assets;
mod counts;
mod dashboard;
#[cfg(test)]
mod fake;
mod flash;
mod kept;
mod layout;
mod link;
mod live;
mod memory;
mod origin;
mod pages;
mod parts;
mod pulse;
mod session;
mod trouble;
mod visit;

pub use api::{Api, Inner};
pub use dashboard::{Dashboard, Options};
pub use memory::TRACE_ID;
