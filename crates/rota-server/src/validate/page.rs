//! Checks of pages: size and cursor.

use std::str::FromStr;

use rota_core::{Name, SessionId};

use super::page_size;
use crate::{failure::Failure, limits::Limits};

/// Default number of queues, workers or calendars on a page.
const DEFAULT: u32 = 1000;

/// A requested page.
#[derive(Debug)]
pub(crate) struct ListPage<T> {
    /// The last entry of the previous page.
    pub(crate) after: Option<T>,
    pub(crate) size: usize,
}

impl<T> ListPage<T> {
    /// A size of zero means the default.
    pub(crate) fn new(size: u32, after: Option<T>, limits: &Limits) -> Result<Self, Failure> {
        Ok(Self { after, size: page_size(size, DEFAULT, limits)? })
    }
}

pub(super) fn foreign() -> Failure {
    Failure::field("page_token", "is not a valid cursor; use the one from the previous page")
}

/// The cursor of a list by name: the last name.
pub(crate) fn name_place(text: &str) -> Result<Option<Name>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    Name::new(text).map(Some).map_err(|_| foreign())
}

/// Writes the cursor of a list of workers.
pub(crate) fn worker_token(worker: &Name, session: SessionId) -> String {
    format!("{session}.{worker}")
}

/// Parses the cursor of a list of workers.
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
