//! Pages of lists: how many on one, and where they go on.

use std::str::FromStr;

use rota_core::{Name, SessionId};

use super::page_size;
use crate::{failure::Failure, limits::Limits};

/// Queues or workers on a page where the client does not say.
const DEFAULT: u32 = 1000;

/// Which part of a list is asked for.
#[derive(Debug)]
pub(crate) struct ListPage<T> {
    /// The last one of the page before.
    pub(crate) after: Option<T>,
    pub(crate) size: usize,
}

impl<T> ListPage<T> {
    /// A size of zero leaves it to the server.
    pub(crate) fn new(size: u32, after: Option<T>, limits: &Limits) -> Result<Self, Failure> {
        Ok(Self { after, size: page_size(size, DEFAULT, limits)? })
    }
}

fn foreign() -> Failure {
    Failure::field("page_token", "is not a cursor that this server gave out")
}

/// Where a list of queues goes on: after that name.
pub(crate) fn queue_token(text: &str) -> Result<Option<Name>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    Name::new(text).map(Some).map_err(|_| foreign())
}

/// How a place in the list of workers is written.
pub(crate) fn worker_token(worker: &Name, session: SessionId) -> String {
    format!("{session}.{worker}")
}

/// Where a list of workers goes on.
pub(crate) fn worker_place(text: &str) -> Result<Option<(Name, SessionId)>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (session, worker) = text.split_once('.')?;
        Some((Name::new(worker).ok()?, SessionId::from_str(session).ok()?))
    };
    read().map(Some).ok_or_else(foreign)
}
