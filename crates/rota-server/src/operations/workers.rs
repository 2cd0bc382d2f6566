//! Operations on workers, for operators.

use rota_core::NameError;
use rota_engine::{WorkerList, WorkerRef};
use rota_proto::v1;

use super::Caller;
use crate::{
    failure::{Failure, Reason},
    services::Services,
    validate::{self, ListPage},
    wire,
};

/// Maximum number of task ids of a worker in a list.
const TASKS_NAMED: usize = 1000;

impl Services {
    /// Lists a page of sessions of workers, by name.
    pub(crate) async fn list_workers(
        &self,
        _: Caller,
        request: v1::ListWorkersRequest,
    ) -> Result<v1::ListWorkersResponse, Failure> {
        let after = validate::worker_place(&request.page_token)?;
        let page = ListPage::new(request.page_size, after, &self.limits)?;
        let list = self.engine.workers_after(page.after, page.size + 1, TASKS_NAMED).await?;
        let WorkerList { mut workers, as_of } = list;
        let goes_on = workers.len() > page.size;
        workers.truncate(page.size);
        let last = workers.last().filter(|_| goes_on);
        let next_page_token = last.map(|last| validate::worker_token(&last.worker, last.id));
        Ok(v1::ListWorkersResponse {
            workers: workers.iter().map(wire::worker).collect(),
            next_page_token,
            as_of: as_of.map(wire::date),
        })
    }

    /// Drains the sessions of a worker. Returns all of them, at least one. The gRPC answer has only the
    /// first.
    pub(crate) async fn drain_worker(
        &self,
        _: Caller,
        request: v1::DrainWorkerRequest,
    ) -> Result<v1::ListWorkersResponse, Failure> {
        let worker: WorkerRef = request
            .worker
            .parse()
            .map_err(|error: NameError| Failure::field("worker", error.to_string()))?;
        let sessions = self.engine.drain(&worker).await?;
        if sessions.is_empty() {
            return Err(Failure::new(Reason::UnknownWorker, "no such worker is connected"));
        }
        let workers = sessions.iter().map(wire::worker).collect();
        Ok(v1::ListWorkersResponse { workers, as_of: None, next_page_token: None })
    }
}
