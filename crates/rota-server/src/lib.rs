//! The API of a Rota node: REST, gRPC, health checks and docs on one port.
//!
//! This crate listens, authenticates, bounds and validates what clients send, maps it to the
//! engine and forms the answers. It holds no transitions and does not know which store is behind
//! the engine. A request's way: `connection` → `gateway` (authentication, which protocol) → `rest` or
//! `grpc` → `operations` → `validate` or `definition` → engine → `definition` or `wire`, or `failure`.

mod auth;
mod connection;
mod definition;
mod failure;
mod forward;
mod gateway;
mod grpc;
mod http_stream;
mod limits;
mod log;
mod net;
mod operations;
mod protocol;
mod request_metrics;
mod request_scanner;
mod rest;
mod room;
mod serve;
mod services;
mod tls;
mod trace;
mod upcoming;
mod validate;
mod wire;

pub use auth::{Tokens, WeakToken};
pub use limits::Limits;
pub use log::{LogControl, WrongFilter};
pub use net::{BoxedStream, ByteStream, Connect, Listen, Pending, TcpConnect};
pub use rest::openapi_json;
pub use rota_dashboard::TRACE_ID;
pub use serve::{ServeError, Server, ServerOptions};
pub use trace::TickSpans;
