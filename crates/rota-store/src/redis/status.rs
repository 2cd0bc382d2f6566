//! How Redis is, asked when somebody wants to know.

use std::time::Duration;

use super::{
    Shared,
    connection::within,
    fault::Fault,
    fitness::{self, Inspection},
};
use crate::store::StoreStatus;

/// How long somebody who wants to know waits.
const LIMIT: Duration = Duration::from_millis(900);

/// How long Redis has for its answer; a connection on which none comes is made anew.
const PATIENCE: Duration = Duration::from_millis(700);

/// The last part of the memory, one of so many, in which the store gets no new work: Redis needs some for its buffers and
/// while it rewrites its file, and work that runs must be able to end.
const RESERVE: u64 = 8;

pub(super) async fn status(shared: &Shared) -> StoreStatus {
    let server = &shared.server;
    let mut status = StoreStatus {
        backend: "redis",
        location: server.options.location(),
        epoch: server.epoch(),
        revision: crate::model::Revision(server.lineage.newest().0.seq.0),
        ..StoreStatus::default()
    };
    if let Err(error) = shared.check_open() {
        status.problem = Some(error.to_string());
        return status;
    }
    let asked = within(LIMIT, inspect(shared)).await.unwrap_or(Err(Fault::Silent(LIMIT)));
    match asked {
        Ok(inspection) => {
            status.problem =
                inspection.problem(&server.options).or_else(|| shared.background.trouble());
            status.weakness = inspection.weakness(&server.options);
            let (used, max) = (inspection.bytes_used(), inspection.bytes_max());
            status.bytes_used = Some(max.map_or(used, |max| used.min(max)));
            status.bytes_max = max;
            status.pressure = max.filter(|max| used > max - max / RESERVE).map(|max| {
                format!("Redis is nearly full: {used} of {max} bytes of maxmemory are used")
            });
        }
        Err(fault) => {
            status.weakness = Inspection::default().weakness(&server.options);
            status.problem = Some(fault.reason());
        }
    }
    status
}

async fn inspect(shared: &Shared) -> Result<Inspection, Fault> {
    let connected = shared.inquiries.connected().await?;
    let mut connection = connected.connection.clone();
    let inspected = within(PATIENCE, fitness::inspect(&mut connection)).await;
    let inspected = inspected.unwrap_or(Err(Fault::Silent(PATIENCE)));
    if let Err(fault) = &inspected {
        shared.inquiries.failed(&connected, fault).await;
    }
    inspected
}
