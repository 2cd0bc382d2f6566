//! Edits of waiting tasks through the shipped client, made of what was read before.
//!
//! The client does not repeat an edit whose answer is lost, because a repeat would be refused for the version that the
//! first one made. So what it is told is what became of the edit that it made.

use std::collections::BTreeMap;

use bytes::Bytes;
use rota_client::{ClientError, Reason, RetryHint};
use rota_proto::{
    FieldMask, TimeSpan,
    v1::{Jitter, RetryPolicy, Task, TaskChange, TaskStatus, UpdateTaskRequest},
};

use super::user::User;
use crate::{
    audit::{Answer, Edit, Intent, stamp_of, tag_of},
    seed::per_mille,
};

impl User {
    /// Reads a task, and changes it if it waits. Now and then as one who does not know what happened since.
    pub(super) async fn edit(&mut self) {
        let stale = self.read.take().filter(|_| per_mille(&mut self.rng, 300));
        let known = match stale {
            Some(known) => known,
            None => match self.waiting_task().await {
                Some(known) => known,
                None => return,
            },
        };
        self.change(&known).await;
        self.read = Some(known);
    }

    async fn waiting_task(&mut self) -> Option<Task> {
        let id = match self.delayed.len() {
            count if count > 0 && per_mille(&mut self.rng, 700) => {
                self.delayed[self.rng.usize(..count)].clone()
            }
            _ => self.some_task()?,
        };
        let from_us = self.world.lock().now_us;
        let task = self.client.get_task(&id).await.ok()?;
        let mut inner = self.world.lock();
        let to_us = inner.now_us;
        if let Some(number) = inner.audit.id_of_tag(tag_of(&task.payload)?) {
            let count = edits(&task);
            let stamp = stamp_of(task.description.as_deref().unwrap_or_default());
            inner.audit.read_version(number, (count, stamp), (from_us, to_us));
        }
        let waits = [TaskStatus::Scheduled, TaskStatus::Pending].contains(&task.status());
        if !waits {
            self.delayed.retain(|other| *other != id);
        }
        waits.then_some(task)
    }

    async fn change(&mut self, known: &Task) {
        let Some(number) =
            tag_of(&known.payload).and_then(|tag| self.world.lock().audit.id_of_tag(tag))
        else {
            return;
        };
        let (stamp, request, intent) = self.made_up(known);
        let change = request.change.clone().unwrap_or_default();
        let asked = Edit {
            task: number,
            base: edits(known),
            payload: change.payload,
            intent,
            priority: change.priority,
            run_at_ms: None,
        };
        {
            let mut inner = self.world.lock();
            let now_us = inner.now_us;
            inner.audit.asks_edit(now_us, stamp, asked);
        }
        let told = answer(&self.client.update_task(request).await);
        let mut inner = self.world.lock();
        let now_us = inner.now_us;
        inner.audit.told_edit(now_us, stamp, told);
    }

    /// An edit of what is known: its stamp, the request, and what the auditor holds the engine to.
    fn made_up(&mut self, known: &Task) -> (u64, UpdateTaskRequest, Intent) {
        self.edited += 1;
        let stamp = self.number << 40 | self.edited;
        let shown = format!("{stamp:016x}");
        let mut payload = known.payload[..known.payload.len().min(16)].to_vec();
        payload.extend_from_slice(shown.as_bytes());
        let mut change = TaskChange {
            description: Some(shown.clone()),
            payload: Bytes::from(payload),
            labels: BTreeMap::from([("edit".to_owned(), shown)]),
            ..TaskChange::default()
        };
        let mut paths = vec!["description", "payload", "labels"];
        let mut intent = intent(known);
        if per_mille(&mut self.rng, 300) {
            let priority = self.rng.u32(0..10);
            (change.priority, intent.priority) = (Some(priority), priority);
            paths.push("priority");
        }
        if per_mille(&mut self.rng, 300) {
            let max_attempts = self.rng.u32(1..6);
            intent.max_attempts = max_attempts;
            change.retry =
                Some(RetryPolicy { max_attempts: Some(max_attempts), ..RetryPolicy::default() });
            paths.push("retry.max_attempts");
        }
        let request = UpdateTaskRequest {
            id: known.id.clone(),
            change: Some(change),
            update_mask: Some(FieldMask { paths: paths.into_iter().map(str::to_owned).collect() }),
            expected_version: Some(known.version),
        };
        (stamp, request, intent)
    }
}

/// How many edits a task had when it was read.
fn edits(task: &Task) -> u32 {
    u32::try_from(task.version.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// What the auditor holds the engine to, if the task stays as it was read.
fn intent(known: &Task) -> Intent {
    let retry = known.retry.unwrap_or_default();
    let millis = |span: Option<TimeSpan>| {
        let span = span.map(TimeSpan::duration).unwrap_or_default();
        i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
    };
    let jitters = retry.jitter() == Jitter::Full;
    Intent {
        queue: known.queue.clone(),
        priority: known.priority,
        run_at_ms: 0,
        expires_at_ms: None,
        max_attempts: retry.max_attempts.unwrap_or_default(),
        max_snoozes: retry.max_snoozes.unwrap_or_default(),
        initial_ms: millis(retry.initial),
        longest_ms: millis(retry.max),
        jitters,
        is_short_lived: known.retention.is_some(),
    }
}

fn answer(told: &Result<Task, ClientError>) -> Answer {
    match told.as_ref().map_err(ClientError::reason) {
        Ok(_) => Answer::Done,
        Err(Some(Reason::Internal) | None) => Answer::Unknown,
        Err(Some(reason)) if reason.retry() == RetryHint::IfRepeatable => Answer::Unknown,
        Err(Some(_)) => Answer::Nothing,
    }
}
