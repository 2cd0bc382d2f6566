//! The builders that [`Client::submit`] and [`Client::submit_all`] return.

use std::{
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
};

use rota_proto::v1;

use crate::{
    client::Client,
    error::ClientError,
    handle::TaskHandle,
    job::Job,
    new_task::{NewTask, names, options, task},
};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Client {
    /// Submits a job. Add options, then `.await`: the task is durable once a handle comes back.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use rota_client::{Client, Job, Retry};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct SendMail { to: String }
    /// # impl Job for SendMail { const KIND: &'static str = "send-mail"; type Output = String; }
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let job = SendMail { to: "ada@example.org".to_owned() };
    /// let sent = client
    ///     .submit(&job)
    ///     .queue("mail")
    ///     .delay(Duration::from_secs(60))
    ///     .retry(Retry::new().max_attempts(5))
    ///     .idempotency_key("welcome/ada")
    ///     .await?;
    /// println!("task {}", sent.id());
    /// let message_id: String = sent.result().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The future resolves to an error if the job has no JSON form, no node can be reached, or the server
    /// refuses the task. After [`ClientError::OutcomeUnknown`], the task may or may not exist. Give it an
    /// `idempotency_key` or an `id`, so that the client can retry the submission.
    pub fn submit<J: Job>(&self, job: &J) -> Submission<J> {
        Submission { client: self.clone(), task: new_task(job), job: PhantomData }
    }

    /// Submits many jobs of one type. Options apply to all of them; [`each`](Batch::each) adds those of one.
    /// There is one result for each job, in the same order.
    ///
    /// ```no_run
    /// # use rota_client::{Client, Job};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct SendMail { to: String }
    /// # impl Job for SendMail { const KIND: &'static str = "send-mail"; type Output = String; }
    /// # async fn example(client: Client, jobs: Vec<SendMail>) {
    /// let sent = client
    ///     .submit_all(&jobs)
    ///     .queue("mail")
    ///     .each(|job, task| task.idempotency_key(format!("newsletter-7/{}", job.to)))
    ///     .await;
    /// for (job, sent) in jobs.iter().zip(sent) {
    ///     match sent {
    ///         Ok(task) => println!("{}: task {}", job.to, task.id()),
    ///         Err(error) => println!("{}: {error}", job.to),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn submit_all<'j, J: Job>(&self, jobs: impl IntoIterator<Item = &'j J>) -> Batch<'j, J> {
        let jobs = jobs.into_iter().map(|job| (job, new_task(job))).collect();
        Batch { client: self.clone(), jobs }
    }

    /// A handle of a task that was submitted earlier, perhaps by another process. `J` must be the job that
    /// the task was submitted as.
    #[must_use]
    pub fn handle<J: Job>(&self, id: impl Into<String>) -> TaskHandle<J> {
        TaskHandle::new(self.clone(), id.into(), false)
    }
}

fn new_task<J: Job>(job: &J) -> Result<NewTask, ClientError> {
    let payload = serde_json::to_vec(job)
        .map_err(|error| ClientError::Payload { kind: J::KIND, reason: error.to_string() })?;
    Ok(task(J::KIND).payload(payload))
}

/// A job to submit. Submitted by `.await`.
#[derive(Debug)]
#[must_use = "a job is submitted by `.await`"]
pub struct Submission<J> {
    client: Client,
    task: Result<NewTask, ClientError>,
    job: PhantomData<fn() -> J>,
}

impl<J> Submission<J> {
    fn edit(&mut self, change: impl FnOnce(&mut v1::NewTask)) {
        if let Ok(task) = &mut self.task {
            change(&mut task.0);
        }
    }
}

options! { [impl<J: Job> Submission<J>] self }
names! { [impl<J: Job> Submission<J>] self }

impl<J: Job> IntoFuture for Submission<J> {
    type Output = Result<TaskHandle<J>, ClientError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, task, .. } = self;
        Box::pin(async move {
            let v1::CreateTaskResponse { task, created } = client.create(task?).await?;
            Ok(TaskHandle::new(client, task.unwrap_or_default().id, created))
        })
    }
}

/// Jobs to submit together. Submitted by `.await`.
#[derive(Debug)]
#[must_use = "jobs are submitted by `.await`"]
pub struct Batch<'j, J> {
    client: Client,
    jobs: Vec<(&'j J, Result<NewTask, ClientError>)>,
}

impl<J: Job> Batch<'_, J> {
    fn edit(&mut self, change: impl Fn(&mut v1::NewTask)) {
        for (_, task) in &mut self.jobs {
            if let Ok(task) = task {
                change(&mut task.0);
            }
        }
    }

    /// Sets options of each job individually, such as its idempotency key.
    pub fn each(mut self, options: impl Fn(&J, NewTask) -> NewTask) -> Self {
        for (job, task) in &mut self.jobs {
            if let Ok(task) = task {
                *task = options(job, std::mem::take(task));
            }
        }
        self
    }
}

options! { [impl<J: Job> Batch<'_, J>] self }

impl<J: Job> IntoFuture for Batch<'_, J> {
    type Output = Vec<Result<TaskHandle<J>, ClientError>>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, jobs } = self;
        let (mut tasks, mut results) = (Vec::new(), Vec::new());
        for (_, task) in jobs {
            // The result of each sent task is filled in below.
            results.push(task.map(|task| tasks.push(task)));
        }
        Box::pin(async move {
            let mut created = client.create_each(tasks).await.into_iter();
            let mut handle = |sent: Result<(), ClientError>| {
                sent?;
                let created = created.next().expect("a result for each task that was sent")?;
                Ok(TaskHandle::new(client.clone(), created.id, created.created))
            };
            results.into_iter().map(&mut handle).collect()
        })
    }
}
