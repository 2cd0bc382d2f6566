//! `QueueService`, `ServerService` and what `WorkerService` tells of workers.

use rota_core::SessionId;
use rota_engine::{EngineError, WorkerList, WorkerRef};
use rota_proto::v1::{
    self, queue_service_server::QueueService, server_service_server::ServerService,
};
use tonic::{Request, Response, Status};

use crate::services::Services;
use crate::{
    failure::{Failure, Reason},
    validate::{self, ListPage},
    wire,
};

/// Ids of tasks that a worker in a list names.
const TASKS_NAMED: usize = 1000;

fn engine(error: EngineError) -> Status {
    Failure::from(error).into()
}

impl Services {
    /// A page of queues.
    pub(crate) async fn list_queues(
        &self,
        page: ListPage<rota_core::Name>,
    ) -> Result<v1::ListQueuesResponse, Failure> {
        // One more tells whether the list goes on.
        let list = self.engine.queues_after(page.after.as_ref(), page.size + 1).await;
        let mut list = list.map_err(Failure::from)?;
        let goes_on = list.queues.len() > page.size;
        list.queues.truncate(page.size);
        let last = list.queues.last().filter(|_| goes_on);
        let next_page_token = last.map(|last| last.name.to_string());
        let now = list.as_of.unwrap_or_else(|| self.engine.info().now);
        let queues = list.queues.iter().map(|counts| wire::queue(counts, now)).collect();
        let as_of = list.as_of.map(wire::date);
        Ok(v1::ListQueuesResponse { queues, as_of, next_page_token })
    }

    /// One queue.
    pub(crate) async fn one_queue(&self, queue: &str) -> Result<v1::Queue, Failure> {
        let queue = validate::name("queue", queue)?;
        let counts = self.engine.queue(&queue).await.map_err(Failure::from)?;
        let counts = counts
            .ok_or_else(|| Failure::new(Reason::UnknownQueue, "nothing has named this queue"))?;
        Ok(wire::queue(&counts, self.engine.info().now))
    }

    /// Stops or restarts a queue.
    pub(crate) async fn set_paused(&self, queue: &str, paused: bool) -> Result<v1::Queue, Failure> {
        let queue = validate::name_in_path("queue", queue, &self.limits)?;
        let counts = self.engine.set_paused(&queue, paused).await.map_err(Failure::from)?;
        Ok(wire::queue(&counts, self.engine.info().now))
    }

    /// A page of workers.
    pub(crate) async fn list_workers(
        &self,
        page: ListPage<(rota_core::Name, SessionId)>,
    ) -> Result<v1::ListWorkersResponse, Failure> {
        let workers = self.engine.workers_after(page.after, page.size + 1, TASKS_NAMED).await;
        let WorkerList { mut workers, as_of } = workers.map_err(Failure::from)?;
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

    /// Asks a worker's sessions to drain.
    pub(crate) async fn drain(&self, worker: &str) -> Result<Vec<v1::Worker>, Failure> {
        let meant: WorkerRef = worker
            .parse()
            .map_err(|error: rota_core::NameError| Failure::field("worker", error.to_string()))?;
        let sessions = self.engine.drain(&meant).await.map_err(Failure::from)?;
        if sessions.is_empty() {
            return Err(Failure::new(Reason::UnknownWorker, "no such worker is connected"));
        }
        Ok(sessions.iter().map(wire::worker).collect())
    }

    /// About the server.
    pub(crate) async fn server_info(&self) -> v1::ServerInfo {
        let store = self.engine.store_status().await;
        let health = self.health();
        wire::info(self.engine.info(), store.backend, &health, &self.limits)
    }
}

#[tonic::async_trait]
impl QueueService for Services {
    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        let request = request.into_inner();
        let size = (request.page_size > 0).then_some(request.page_size);
        let after = validate::queue_token("page_token", &request.page_token)?;
        let page = ListPage::new("page_size", size, after, &self.limits)?;
        Ok(Response::new(Services::list_queues(self, page).await?))
    }

    async fn pause_queue(
        &self,
        request: Request<v1::QueueRequest>,
    ) -> Result<Response<v1::Queue>, Status> {
        Ok(Response::new(self.set_paused(&request.into_inner().queue, true).await?))
    }

    async fn resume_queue(
        &self,
        request: Request<v1::QueueRequest>,
    ) -> Result<Response<v1::Queue>, Status> {
        Ok(Response::new(self.set_paused(&request.into_inner().queue, false).await?))
    }
}

#[tonic::async_trait]
impl ServerService for Services {
    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::ServerInfo>, Status> {
        Ok(Response::new(self.server_info().await))
    }

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::Cluster>, Status> {
        let headers = request.metadata().clone().into_headers();
        Ok(Response::new(self.cluster(headers.get(http::header::AUTHORIZATION)).await))
    }

    async fn get_node(&self, _: Request<v1::GetNodeRequest>) -> Result<Response<v1::Node>, Status> {
        Ok(Response::new(self.this_node()))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        Ok(Response::new(self.transfer(request.into_inner().to()).await?))
    }
}

/// What a worker that is asked to drain looks like; of several sessions, the first.
pub(super) async fn drain_one(services: &Services, worker: &str) -> Result<v1::Worker, Status> {
    let sessions = services.drain(worker).await?;
    sessions.into_iter().next().ok_or_else(|| engine(rota_core::Refusal::UnknownSession.into()))
}
