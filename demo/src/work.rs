//! The documents' tasks: one for each, waited for and checked.

use futures_util::{StreamExt, stream};
use rota_client::{Client, TaskStatus};

use crate::{
    Result,
    documents::{Document, Facts},
    scenarios::Stage,
    show::{Progress, Row},
};

/// Documents waited for at once.
const WATCHED: usize = 64;

/// Every document: submitted, waited for, and checked against the files.
pub(crate) async fn work_through(
    stage: &Stage,
    documents: &[Document],
    progress: &Progress,
) -> Result<Vec<Row>> {
    let task = |document: &Document| {
        stage.command("examine", &[&document.path, &document.copy]).queue("documents")
    };
    let created = stage.client().create_tasks(documents.iter().map(task).collect()).await?;
    let mut submitted = Vec::with_capacity(documents.len());
    for (document, created) in documents.iter().zip(created) {
        match created {
            Ok(task) => submitted.push((document.clone(), task.id)),
            Err(error) => return Err(format!("{} was not accepted: {error}", document.path).into()),
        }
    }
    let checked = stream::iter(submitted).map(|(document, id)| async move {
        let checked = check(stage.client(), document, &id).await;
        progress.document();
        checked
    });
    let mut tally = Tally::default();
    for checked in checked.buffer_unordered(WATCHED).collect::<Vec<_>>().await {
        tally.add(checked?, progress);
    }
    Ok(tally.rows(documents.len()))
}

/// What came of a document's task.
struct Checked {
    status: TaskStatus,
    attempts: u32,
    lost: u32,
    /// Why it is not what the files say.
    facts: std::result::Result<Facts, String>,
}

async fn check(client: &Client, document: Document, id: &str) -> Result<Checked> {
    let task = client.wait_task(id).await?;
    let result = client.get_result(id).await?;
    let result: serde_json::Value = serde_json::from_slice(&result).unwrap_or_default();
    let reported = Facts::reported(result["stdout"].as_str().unwrap_or_default());
    let path = document.path.clone();
    let observed = tokio::task::spawn_blocking(move || Facts::observed(&document)).await?;
    let facts = match (reported, observed) {
        (Some(reported), Ok(observed)) if reported == observed => Ok(observed),
        (reported, observed) => Err(format!("{path}: reported {reported:?}, is {observed:?}")),
    };
    Ok(Checked { status: task.status(), attempts: task.attempt, lost: task.lost, facts })
}

#[derive(Default)]
struct Tally {
    completed: usize,
    correct: usize,
    attempts: u32,
    lost: u32,
    bytes: u64,
    compressed: u64,
}

impl Tally {
    fn add(&mut self, checked: Checked, progress: &Progress) {
        self.completed += usize::from(checked.status == TaskStatus::Completed);
        self.attempts += checked.attempts;
        self.lost += checked.lost;
        match checked.facts {
            Ok(facts) => {
                self.correct += 1;
                self.bytes += facts.bytes;
                self.compressed += facts.compressed;
            }
            Err(reason) => progress.say(&reason),
        }
    }

    fn rows(&self, documents: usize) -> Vec<Row> {
        let megabytes = |bytes: u64| bytes / 1_000_000;
        vec![
            Row::same(
                "documents worked through",
                format!("{documents} completed"),
                format!("{} completed", self.completed),
            ),
            Row::new(
                "checksums, sizes and copies, against the files",
                format!("{documents} right"),
                format!(
                    "{} right ({} MB in {} MB)",
                    self.correct,
                    megabytes(self.bytes),
                    megabytes(self.compressed)
                ),
                self.correct == documents,
            ),
            Row::same(
                "attempts for them",
                format!("{documents} + {} lost with their worker", self.lost),
                format!("{} + {} lost with their worker", self.attempts - self.lost, self.lost),
            ),
        ]
    }
}
