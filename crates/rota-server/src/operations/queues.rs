//! Operations on queues.

use rota_proto::v1;

use super::Caller;
use crate::{
    failure::{Failure, Reason},
    services::Services,
    validate::{self, ListPage},
    wire,
};

impl Services {
    /// Lists a page of queues, by name.
    pub(crate) async fn list_queues(
        &self,
        _: Caller,
        request: v1::ListQueuesRequest,
    ) -> Result<v1::ListQueuesResponse, Failure> {
        let after = validate::name_place(&request.page_token)?;
        let page = ListPage::new(request.page_size, after, &self.limits)?;
        // One more entry shows whether another page follows.
        let mut list = self.engine.queues_after(page.after.as_ref(), page.size + 1).await?;
        let goes_on = list.queues.len() > page.size;
        list.queues.truncate(page.size);
        let last = list.queues.last().filter(|_| goes_on);
        let next_page_token = last.map(|last| last.name.to_string());
        let now = list.as_of.unwrap_or_else(|| self.engine.info().now);
        let queues = list.queues.iter().map(|counts| wire::queue(counts, now)).collect();
        let as_of = list.as_of.map(wire::date);
        Ok(v1::ListQueuesResponse { queues, as_of, next_page_token })
    }

    /// Gets a queue.
    pub(crate) async fn get_queue(
        &self,
        _: Caller,
        request: v1::QueueRequest,
    ) -> Result<v1::Queue, Failure> {
        let queue = validate::name("queue", &request.queue)?;
        let counts = self.engine.queue(&queue).await?;
        let counts = counts.ok_or_else(|| Failure::new(Reason::UnknownQueue, "no such queue"))?;
        Ok(wire::queue(&counts, self.engine.info().now))
    }

    /// Pauses a queue.
    pub(crate) async fn pause_queue(
        &self,
        _: Caller,
        request: v1::PauseQueueRequest,
    ) -> Result<v1::Queue, Failure> {
        let queue = validate::name_in_path("queue", &request.queue, &self.limits)?;
        let pause = validate::pause(request.note, request.by, self.engine.info().now)?;
        let counts = self.engine.pause_queue(&queue, Some(pause)).await?;
        Ok(wire::queue(&counts, self.engine.info().now))
    }

    /// Resumes a queue.
    pub(crate) async fn resume_queue(
        &self,
        _: Caller,
        request: v1::QueueRequest,
    ) -> Result<v1::Queue, Failure> {
        let queue = validate::name_in_path("queue", &request.queue, &self.limits)?;
        let counts = self.engine.pause_queue(&queue, None).await?;
        Ok(wire::queue(&counts, self.engine.info().now))
    }
}
