//! The API of a Rota node: REST, gRPC, health checks and docs on one port.
//!
//! This crate accepts connections, authenticates and validates requests, maps them to the engine, and builds
//! the answers. It has no state transitions, and does not know which store the engine uses. The path of a
//! request: `connection` → `door` (authentication, which protocol) → `rest` or `grpc` → `operations` →
//! `validate` or `definition` → engine → `definition` or `wire`, or `failure`.

mod auth;
mod connection;
mod count;
mod definition;
mod door;
mod failure;
mod forward;
mod grpc;
mod limits;
mod line;
mod log;
mod net;
mod operations;
mod protocol;
mod requests;
mod rest;
mod room;
mod serve;
mod services;
mod trace;
mod validate;
mod wire;

pub use auth::{Tokens, WeakToken};
pub use limits::Limits;
pub use log::{LogControl, WrongFilter};
pub use net::{BoxedStream, ByteStream, Connect, Listen, Pending, TcpConnect};
pub use rest::openapi_json;
pub use serve::{ServeError, Server, ServerOptions};
