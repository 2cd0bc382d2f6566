//! New tasks: of all sorts, alone and many at once, and again where the outcome is not known.

use bytes::Bytes;
use rota_core::{
    ClientKeys, Definition, Jitter, Millis, Name, Policy, Priority, Refusal, RetryPolicy, WallTime,
};
use rota_engine::{EngineError, NewTask, RunAt, Submitted};

use super::{CALL_WAIT, Client, REMEMBERED, wall};
use crate::{
    audit::Intent,
    call::{CallError, Served},
    seed::per_mille,
};

/// A task with this delay waits for long enough to be changed.
const DELAYED: Millis = Millis(500);

/// Sizes of payloads in a flood.
const FLOOD: std::ops::Range<usize> = 300_000..600_000;

type Submits = Vec<Result<Submitted, Refusal>>;

impl Client {
    pub(super) fn new_task(&mut self) -> NewTask {
        self.submitted += 1;
        let tag = self.number << 40 | self.submitted;
        let mut payload = format!("{tag:016x}").into_bytes();
        if per_mille(&mut self.rng, 20) {
            payload.resize(self.rng.usize(16..60_000), b'x');
        }
        if self.behaviours.large && per_mille(&mut self.rng, 3) {
            payload.resize(self.rng.usize(100_000..600_000), b'x');
        }
        let mut client_keys = ClientKeys::default();
        match self.rng.u32(..10) {
            0..3 => client_keys.id = Name::new(&format!("c{tag:x}")).ok(),
            3 => client_keys.key = Some(format!("key {tag:x}").into()),
            _ => {}
        }
        let run_at = match self.rng.u32(..10) {
            0..8 => RunAt::Now,
            8 => RunAt::After(Millis(self.rng.u64(1..500))),
            _ => RunAt::After(Millis(self.rng.u64(500..15_000))),
        };
        let retry = RetryPolicy {
            max_attempts: self.rng.u32(1..6),
            initial: Millis(self.rng.u64(0..500)),
            multiplier: 2.0,
            max: Millis(3000),
            jitter: if self.rng.bool() { Jitter::Full } else { Jitter::None },
            max_lost: 3,
            max_snoozes: self.rng.u32(0..4),
        };
        let expires = self.behaviours.expiry && per_mille(&mut self.rng, 150);
        let expires_at = expires.then(|| {
            let now = wall(self.caller.world.lock().now_us);
            WallTime(now + self.rng.i64(20..20_000))
        });
        let retention = per_mille(&mut self.rng, 100).then(|| Millis(self.rng.u64(0..20_000)));
        // A lease that nobody holds must not be freed by a timeout before it shows.
        let timeout = if self.rng.u32(..10) == 0 { Millis(20_000) } else { Millis(3_600_000) };
        let queue = self.queue();
        let kind = Name::new(["a", "b"][self.rng.usize(..2)]).expect("a name");
        let definition = Definition {
            payload: Bytes::from(payload),
            expires_at,
            policy: Policy { retry, timeout, retention },
            ..Definition::new(queue, kind)
        };
        let priority = Priority::new(self.rng.u32(0..10)).unwrap_or_default();
        NewTask { client_keys, definition, priority, run_at }
    }

    /// Makes a task large while clients flood the nodes.
    pub(super) fn flood(&mut self, task: &mut NewTask) {
        let bytes = &mut self.caller.world.lock().flood_bytes;
        if *bytes == 0 {
            return;
        }
        let mut payload = task.definition.payload.to_vec();
        payload.resize(self.rng.usize(FLOOD), b'z');
        *bytes = bytes.saturating_sub(payload.len());
        task.definition.payload = Bytes::from(payload);
    }

    pub(super) async fn submit(&mut self, tasks: Vec<NewTask>) {
        let asked = tasks.clone();
        let answer = self.caller.ask("submit", CALL_WAIT, move |served| give(served, tasks));
        match answer.await {
            Ok(results) => {
                for (task, result) in asked.iter().zip(results) {
                    let Ok(Submitted { task: id, .. }) = result else { continue };
                    self.tasks.push(id);
                    if matches!(task.run_at, RunAt::After(delay) if delay >= DELAYED) {
                        self.delayed(id);
                    }
                }
                let surplus = self.tasks.len().saturating_sub(REMEMBERED);
                self.tasks.drain(..surplus);
            }
            Err(error) => {
                self.note("submit", &error);
                // Only what has a name can be asked for again without being done twice.
                let named = asked.into_iter().filter(|task| !task.client_keys.is_empty());
                self.open.extend(named);
                self.rest(&error).await;
            }
        }
    }
}

/// On the node: submits, and tells the auditor what was answered.
async fn give(served: Served, tasks: Vec<NewTask>) -> Result<Submits, EngineError> {
    let facts: Vec<_> = tasks.iter().map(|task| (tag(task), name(task))).collect();
    served.with(|inner, now_us| {
        for task in &tasks {
            let intent = intent(&task.definition, task.priority, task.run_at, wall(now_us));
            inner.audit.intends(tag(task), intent);
        }
    });
    let result = served.engine.submit(tasks).await;
    served.with(|inner, now_us| match &result {
        Ok(results) => {
            // The call itself is counted as one.
            inner.count(results.len() - 1);
            for ((tag, name), result) in facts.iter().zip(results) {
                match result {
                    Ok(Submitted { task, .. }) => {
                        let id = task.as_u64();
                        inner.audit.accepted(now_us, *tag, id, name.as_deref());
                    }
                    Err(refusal) => {
                        let why = refusal.to_string();
                        inner.audit.unchanged(now_us, *tag, name.is_some(), &why);
                    }
                }
            }
        }
        Err(error) if CallError::Engine(error.clone()).nothing_changed() => {
            for (tag, name) in &facts {
                // A named one may have been accepted before.
                if name.is_none() {
                    inner.audit.unchanged(now_us, *tag, false, &error.to_string());
                }
            }
        }
        Err(_) => {}
    });
    result
}

/// What the auditor holds the engine to, if this reaches it now.
pub(super) fn intent(
    definition: &Definition,
    priority: Priority,
    run_at: RunAt,
    now_ms: i64,
) -> Intent {
    let millis = |millis: Millis| i64::try_from(millis.0).unwrap_or(i64::MAX);
    let Policy { retry, retention, .. } = definition.policy;
    let RetryPolicy { max_attempts, initial, max, jitter, max_snoozes, .. } = retry;
    Intent {
        queue: definition.queue.to_string(),
        priority: priority.level().into(),
        run_at_ms: run_at.resolve(WallTime(now_ms)).0,
        expires_at_ms: definition.expires_at.map(|date| date.0),
        max_attempts,
        max_snoozes,
        initial_ms: millis(initial),
        longest_ms: millis(max),
        jitters: jitter == Jitter::Full,
        is_short_lived: retention.is_some(),
    }
}

fn tag(task: &NewTask) -> u64 {
    crate::audit::tag_of(&task.definition.payload).unwrap_or_default()
}

fn name(task: &NewTask) -> Option<String> {
    let id = task.client_keys.id.as_ref().map(|id| format!("id {id}"));
    id.or_else(|| task.client_keys.key.as_ref().map(|key| format!("key {key}")))
}
