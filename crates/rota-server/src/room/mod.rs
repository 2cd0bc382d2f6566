//! Memory budgets for request bodies and answers, so that many valid requests at once cannot use up the
//! memory of a node.
//!
//! `bodies` counts request bodies, from their arrival until the request is answered, in the order that
//! `share` keeps; `whole` reads them. `answers` counts large answers until the client has read them.

mod answers;
mod bodies;
mod framing;
mod held;
mod share;
mod whole;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use rota_metrics::{InFlight, NodeMetrics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::failure::{Failure, LimitName, Reason, Violation};

pub(crate) use answers::{Answers, Broken};
pub(crate) use bodies::{Bodies, Streams};
pub(crate) use held::StreamRoom;
pub(crate) use whole::{Bounds, read_body};

/// Bytes that one permit stands for.
const UNIT: usize = 1024;
/// Time that a request waits for memory.
pub(crate) const ROOM: Duration = Duration::from_secs(5);
/// Value of the header Retry-After.
const RETRY: Duration = Duration::from_secs(1);

/// A budget of memory in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    units: usize,
    shown: Shown,
}

/// The metric of its use.
#[derive(Debug, Clone)]
struct Shown {
    metrics: NodeMetrics,
    what: InFlight,
}

/// Memory in use. Dropping it releases the memory.
#[derive(Debug)]
pub(crate) struct Room {
    permit: OwnedSemaphorePermit,
    shown: Shown,
}

impl Budget {
    pub(crate) fn of(bytes: usize, what: InFlight, metrics: &NodeMetrics) -> Self {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let shown = Shown { metrics: metrics.clone(), what };
        Self { free: Arc::new(Semaphore::new(units)), units, shown }
    }

    /// The whole budget, in bytes.
    fn bytes(&self) -> usize {
        self.units * UNIT
    }

    /// An amount above the budget counts as the whole budget.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).min(self.units)).unwrap_or(u32::MAX)
    }

    /// Waits for memory of this many bytes.
    async fn take(self, bytes: usize) -> Room {
        let units = self.units(bytes);
        match self.free.acquire_many_owned(units).await {
            Ok(permit) => Room::new(permit, self.shown),
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    fn try_take(&self, bytes: usize) -> Option<Room> {
        let permit = self.free.clone().try_acquire_many_owned(self.units(bytes)).ok()?;
        Some(Room::new(permit, self.shown.clone()))
    }

    /// Takes the free memory, up to this many bytes.
    fn take_some(&self, bytes: usize) -> Option<Room> {
        self.try_take(bytes.min(self.free.available_permits() * UNIT))
    }
}

impl Room {
    fn new(permit: OwnedSemaphorePermit, shown: Shown) -> Self {
        shown.metrics.in_flight(shown.what, bytes(&permit));
        Self { permit, shown }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shown.metrics.in_flight(self.shown.what, -bytes(&self.permit));
    }
}

fn bytes(permit: &OwnedSemaphorePermit) -> i64 {
    i64::try_from(permit.num_permits() * UNIT).unwrap_or(i64::MAX)
}

/// There is no free memory.
fn no_room(what: &str, limit: LimitName) -> Failure {
    let message = format!(
        "exceeds the free memory of this node for bodies and answers; nothing was changed; retry (limit {})",
        limit.name
    );
    Failure {
        violations: vec![Violation {
            field: what.to_owned(),
            message: message.clone(),
            limit: Some(limit),
        }],
        retry_after: Some(RETRY),
        ..Failure::new(Reason::Overloaded, format!("{what} {message}"))
    }
}

/// Why the rest of a body is not read. It is its own source as a gRPC status, so that tonic answers with it.
#[derive(Debug)]
struct Refused {
    failure: Failure,
    status: Status,
}

impl Refused {
    fn new(failure: Failure) -> Self {
        Self { status: failure.clone().into(), failure }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.detail)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.status)
    }
}

/// The failure of a body that was refused, found in the error of its reader.
fn refused(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(refused) = this.downcast_ref::<Refused>() {
            return Some(refused.failure.clone());
        }
        error = this.source();
    }
    None
}
