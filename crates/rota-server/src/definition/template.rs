//! The template of a schedule: the definition of a task without the parts of a single task.

use std::time::Duration;

use rota_core::{Definition, Policy, Template, WallTime};
use rota_engine::NewTask;
use rota_proto::v1;

use super::{checked, retry, texts};
use crate::{
    failure::Failure,
    limits::{EXPIRES_AFTER, Limits},
    validate::{Check, FieldPrefix},
    wire::span,
};

/// Checks a template. `prefix` is its place in the request.
pub(super) fn template(
    template: v1::TaskTemplate,
    prefix: FieldPrefix,
    limits: &Limits,
) -> Result<Template, Failure> {
    let v1::TaskTemplate {
        queue,
        kind,
        payload,
        labels,
        priority,
        expires_after,
        timeout,
        retry,
        retention,
        description,
    } = template;
    let task = v1::NewTask {
        id: None,
        queue,
        kind,
        payload,
        labels,
        priority,
        run_at: None,
        delay: None,
        expires_at: None,
        timeout,
        retry,
        idempotency_key: None,
        retention,
        description,
    };
    let mut check = Check::at(prefix);
    // A task without a deadline is never compared with the time.
    let task = check.also(checked(task, prefix, limits, || WallTime(0)));
    let range = (Duration::from_millis(1), EXPIRES_AFTER);
    let expires_after = check.span("expires_after", expires_after, range);
    check.finish(task.map(|NewTask { definition, priority, .. }| Template {
        definition,
        priority,
        expires_after,
    }))
}

/// Maps a template to the wire.
pub(super) fn shown(template: &Template) -> v1::TaskTemplate {
    let Template { definition, priority, expires_after } = template;
    // A template has neither a deadline nor a trace.
    let Definition { queue, kind, payload, labels, description, expires_at: _, policy, trace: _ } =
        definition;
    let Policy { retry: retries, timeout, retention } = policy;
    v1::TaskTemplate {
        queue: Some(queue.to_string()),
        kind: kind.to_string(),
        payload: payload.clone(),
        labels: texts(labels),
        priority: Some(priority.level().into()),
        expires_after: expires_after.map(span),
        timeout: Some(span(*timeout)),
        retry: Some(retry(retries)),
        retention: retention.map(span),
        description: description.as_deref().map(str::to_owned),
    }
}
