//! Creates tasks: one by one, or many in requests of limited size.

use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message as _;
use rota_proto::operations::Operation;
use rota_proto::v1::{
    self,
    create_tasks_response::{Created, result::Result as Item},
};

use crate::{client::Client, error::ClientError, new_task::NewTask};

/// Maximum number of tasks in one request.
const BATCH: usize = 1000;
/// Maximum number of concurrent requests.
const BATCHES_IN_FLIGHT: usize = 4;
/// Maximum bytes of tasks in one request.
const BATCH_BYTES: usize = 8 << 20;

/// The result for each task, in order.
type Results = Vec<Result<Created, ClientError>>;

impl Client {
    /// Creates a task. The client retries after a lost answer only if the task has an id or an idempotency
    /// key.
    ///
    /// # Errors
    /// If no node can be reached, or the server refuses the task. After [`ClientError::OutcomeUnknown`], the
    /// task may or may not exist.
    pub async fn create_task(&self, task: NewTask) -> Result<v1::Task, ClientError> {
        Ok(self.create(task).await?.task.unwrap_or_default())
    }

    /// Creates a task. Returns it, and whether it was created now.
    pub(crate) async fn create(
        &self,
        task: NewTask,
    ) -> Result<v1::CreateTaskResponse, ClientError> {
        let repeat = Operation::CreateTask.repeat().of_tasks(task.is_named());
        let request = v1::CreateTaskRequest { task: Some(task.0) };
        self.nodes
            .ask(repeat, self.request_timeout, |connection| {
                let request = request.clone();
                async move { Self::tasks(connection).create_task(request).await }
            })
            .await
    }

    /// Creates any number of tasks, in several requests if necessary. Each has its own result, in the same
    /// order. The client retries a request after a lost answer only if all its tasks have an id or an
    /// idempotency key.
    ///
    /// # Errors
    /// If a request could not be sent or answered. Tasks of earlier requests can exist.
    pub async fn create_tasks(&self, tasks: Vec<NewTask>) -> Result<Results, ClientError> {
        let sent = portions(tasks).into_iter().map(|portion| self.create_portion(portion));
        let answers: Vec<Results> =
            stream::iter(sent).buffered(BATCHES_IN_FLIGHT).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// The same, with a result for each task even if a request fails. After a failure, no further request is
    /// sent.
    pub(crate) async fn create_each(&self, tasks: Vec<NewTask>) -> Results {
        let failed: Mutex<Option<String>> = Mutex::default();
        let failed = &failed;
        let sent = portions(tasks).into_iter().map(|portion| async move {
            let tasks = portion.len();
            // The text is consistent between two uses.
            let earlier = failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let error = match earlier {
                Some(reason) => ClientError::NotSent { reason },
                None => match self.create_portion(portion).await {
                    Ok(results) => return results,
                    Err(error) => error,
                },
            };
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| error.to_string());
            vec![Err(error); tasks]
        });
        let results: Vec<Results> = stream::iter(sent).buffered(BATCHES_IN_FLIGHT).collect().await;
        results.into_iter().flatten().collect()
    }

    async fn create_portion(&self, tasks: Vec<NewTask>) -> Result<Results, ClientError> {
        let named = tasks.iter().all(NewTask::is_named);
        let repeat = Operation::CreateTasks.repeat().of_tasks(named);
        let tasks: Vec<_> = tasks.into_iter().map(|task| task.0).collect();
        let count = tasks.len();
        let request = v1::CreateTasksRequest { tasks };
        let answer = self.nodes.ask(repeat, self.request_timeout, |connection| {
            let request = request.clone();
            async move { Self::tasks(connection).create_tasks(request).await }
        });
        let mut results = answer.await?.results.into_iter();
        let result_of = |_| match results.next().and_then(|item| item.result) {
            Some(Item::Task(created)) => Ok(created),
            Some(Item::Error(error)) => Err(error.into()),
            None => Err(ClientError::OutcomeUnknown {
                addresses: self.addresses().to_owned(),
                reason: "the answer has no result for this task".to_owned(),
            }),
        };
        Ok((0..count).map(result_of).collect())
    }
}

/// Splits tasks into requests of limited number and size. An oversized task gets its own request, so that no
/// other task is refused with it.
fn portions(tasks: Vec<NewTask>) -> Vec<Vec<NewTask>> {
    let mut portions = Vec::with_capacity(tasks.len().div_ceil(BATCH));
    let mut portion = Vec::new();
    let mut bytes = 0;
    for task in tasks {
        let size = task.0.encoded_len();
        if portion.len() == BATCH || (bytes + size > BATCH_BYTES && !portion.is_empty()) {
            portions.push(std::mem::take(&mut portion));
            bytes = 0;
        }
        bytes += size;
        portion.push(task);
    }
    if !portion.is_empty() {
        portions.push(portion);
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::new_task::task;

    #[test]
    fn portions_are_bounded_in_number_and_size() {
        let small: Vec<_> = (0..2500).map(|_| task("t")).collect();
        let sizes: Vec<_> = portions(small).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1000, 1000, 500]);
        let large: Vec<_> = (0..20).map(|_| task("t").payload(vec![0; 1 << 20])).collect();
        let sizes: Vec<_> = portions(large).iter().map(Vec::len).collect();
        assert_eq!(sizes, [7, 7, 6]);
        let sized = |bytes: usize| task("t").label("x", "y".repeat(bytes));
        let mixed = vec![sized(1), sized(9 << 20), sized(1), sized(1)];
        let sizes: Vec<_> = portions(mixed).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 2]);
    }
}
