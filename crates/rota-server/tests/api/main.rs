//! The API of a node as clients see it: a real engine over a real embedded store behind a real
//! port, asked in HTTP and gRPC.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod access;
mod bad_input;
mod bad_messages;
mod cluster;
mod connection;
mod contract;
mod dashboard;
mod edges;
mod events;
mod followers;
mod grpc;
mod harness;
mod health;
mod lists;
mod memory;
mod metrics;
mod network;
mod output;
mod parity;
mod pull;
mod rest;
mod schedule_vectors;
mod schedules;
mod slow_clients;
mod sse;
mod tls;
mod work;
