//! `--watch`: shows something again when it changes.
//!
//! Each view listens before it reads, so that it misses no change. It stops listening until the next view after the
//! first event, so that a busy server does not send events that nobody shows.

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args;
use rota_client::{Client, ErrorKind, EventFilter, Events};
use tokio::time::{sleep, timeout};

use crate::{
    exit::{Exit, Failure},
    output,
};

/// Minimum time between two views.
const PACE: Duration = Duration::from_millis(500);
/// Time after which a view is shown again without an event, because it has ages.
const AGE: Duration = Duration::from_secs(10);
/// Interval of views of a server without events.
const POLL: Duration = Duration::from_secs(2);
/// Moves the cursor to the top, and clears the screen.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// The flag.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WatchArgs {
    /// Show it again when it changes, until Ctrl-C.
    #[arg(long, short = 'w')]
    pub(crate) watch: bool,
}

/// Shows something once, or again and again when an event matches the filter.
///
/// # Errors
/// When the first view fails, or a later one for another reason than an unreachable server.
pub(crate) async fn shown<F>(
    args: WatchArgs,
    client: &Client,
    filter: EventFilter,
    show: impl Fn() -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    if !args.watch {
        return show().await;
    }
    let mut was_shown = false;
    loop {
        let mut events = client.events(filter.clone());
        let listens = listens(&mut events).await?;
        if was_shown && !begin_view()? {
            return Ok(());
        }
        match show().await {
            Ok(()) => was_shown = true,
            Err(failure) if was_shown && failure.exit == Exit::Unavailable => {
                output::note(&format!("{failure}; retrying"));
            }
            Err(failure) => return Err(failure),
        }
        if listens {
            // An event, an interruption and an age have the same effect.
            let _ = timeout(AGE, events.next()).await;
            sleep(PACE).await;
        } else {
            sleep(POLL).await;
        }
    }
}

/// Waits for the first event, which says that all changes from here on are told. False if there are no events to be
/// had; then the view says why, if no server can be reached.
async fn listens(events: &mut Events) -> Result<bool, Failure> {
    match events.next().await {
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) if error.kind() == ErrorKind::InvalidRequest => Err(error.into()),
        Some(Err(_)) | None => Ok(false),
    }
}

/// Separates a view from the one before. Returns whether somebody still reads.
fn begin_view() -> Result<bool, Failure> {
    output::stream(if io::stdout().is_terminal() { CLEAR } else { b"\n" })
}
