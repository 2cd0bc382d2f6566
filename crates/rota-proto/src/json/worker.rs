//! Workers, and being one without a stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    payload::json_or_base64,
    scalar::{Date, Span},
    schema,
    task::text,
    whole,
};
use crate::v1;

/// A worker's session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its session.
    pub session: String,
    /// Its name.
    pub name: String,
    /// The most tasks it holds. A worker without a stream has as many as it last asked for, or holds.
    pub slots: u32,
    /// Tasks it holds.
    pub slots_used: u32,
    /// Served queues; empty means all.
    pub queues: Vec<String>,
    /// Served kinds; empty means all.
    pub kinds: Vec<String>,
    /// When the session was opened.
    pub connected_at: Date,
    /// How long ago it was last heard of.
    pub heartbeat_age: Span,
    /// Whether it takes no more.
    pub draining: bool,
    /// Ids of the tasks it holds, up to 1,000.
    pub tasks: Vec<String>,
}

/// A page of workers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<Worker>,
    /// Time of this state. Present only while the store takes no commit: the list then shows the state of an earlier
    /// commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Date>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// About the server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// This node.
    pub node: String,
    /// The leading node, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The leadership's number.
    pub epoch: u64,
    /// The sort of store.
    pub store: String,
    /// When this process began.
    pub started_at: Date,
    /// The server's clock.
    pub now: Date,
    /// Tasks that have not ended.
    pub live_tasks: u64,
    /// Whether it serves.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The feature level that this node knows.
    #[serde(default)]
    pub feature_level: u32,
    /// The feature level that the cluster may use.
    #[serde(default)]
    pub cluster_feature_level: u32,
    /// Limits in force.
    pub limits: BTreeMap<String, u64>,
}

/// A worker without a stream asks for tasks.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// A name for people.
    #[schema(schema_with = schema::worker)]
    pub worker: String,
    /// Its session, from the last answer; absent on the first call. Or chosen by the worker at random:
    /// `s_0` and 12 of the characters 0-9 a-z without i, l, o, u. Then it can end its session although
    /// an answer was lost.
    #[schema(schema_with = schema::session)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Served queues; empty means all.
    #[serde(default)]
    #[schema(schema_with = schema::served)]
    pub queues: Vec<String>,
    /// Served kinds; empty means all.
    #[serde(default)]
    #[schema(schema_with = schema::served)]
    pub kinds: Vec<String>,
    /// The most tasks wanted. Default: 1.
    #[schema(minimum = 1, maximum = 1000)]
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub max: Option<u32>,
    /// How long to wait for the first one. Default: 0s; at most 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// Without a call for so long, the session ends. Default: 60s; 5s to 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// The tasks that the worker has; empty for one that works on none while it asks. What else its
    /// session holds, an answer that was lost had told of: it is handed over again. What of these it
    /// does not hold is to be stopped. Absent: nothing is said of either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<HeldLease>>,
}

/// A task that a worker has.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldLease {
    /// The task.
    pub id: String,
    /// The lease.
    #[serde(deserialize_with = "whole::number")]
    pub lease_token: u64,
}

/// Leased tasks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeaseResponse {
    /// To be named in later calls.
    pub session: String,
    /// Without a call for so long, it ends.
    pub ttl: Span,
    /// Whether the worker is asked to take no more.
    pub draining: bool,
    /// Empty when the wait was over, or there was something else to tell.
    pub tasks: Vec<DispatchedTask>,
    /// Attempts that the worker is to stop.
    pub stop: Vec<Stop>,
}

/// An attempt that its worker is to stop.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Stop {
    /// The task.
    pub id: String,
    /// The lease.
    pub lease_token: u64,
    /// Why.
    pub reason: StopReason,
}

/// Why an attempt is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A client asked. Named in each answer until the end is reported; after 30 s the server does
    /// without.
    Cancelled,
    /// The lease is over; no report will be accepted.
    LeaseLost,
    /// It took longer than allowed; no report will be accepted.
    Timeout,
}

/// A task on its way to a worker.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DispatchedTask {
    /// Which.
    pub id: String,
    /// What its reports must carry.
    pub lease_token: u64,
    /// Where it waited.
    pub queue: String,
    /// Which handler runs it.
    pub kind: String,
    /// Parameters.
    #[schema(value_type = Option<serde_json::Value>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Parameters that are not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// 1 for the first.
    pub attempt: u32,
    /// Attempts that it has.
    pub max_attempts: u32,
    /// Longest time for this attempt.
    pub timeout: Span,
    /// For people and filters.
    pub labels: BTreeMap<String, String>,
    /// When it was accepted.
    pub created_at: Date,
    /// When it was due.
    pub run_at: Date,
    /// W3C trace context that the task was created with: the attempt belongs under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

/// A session lives on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatResponse {
    /// Which.
    pub session: String,
    /// Whether the worker is asked to take no more.
    pub draining: bool,
    /// Attempts that the worker is to stop.
    pub stop: Vec<Stop>,
}

/// The attempt succeeded.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteRequest {
    /// From the lease.
    #[schema(schema_with = schema::lease_token)]
    #[serde(deserialize_with = "whole::number")]
    pub lease_token: u64,
    /// Any JSON.
    #[schema(value_type = Option<serde_json::Value>)]
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// The end of what it printed.
    #[serde(default)]
    pub output_tail: Option<String>,
}

/// The attempt failed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailRequest {
    /// From the lease.
    #[schema(schema_with = schema::lease_token)]
    #[serde(deserialize_with = "whole::number")]
    pub lease_token: u64,
    /// What went wrong.
    pub error: String,
    /// Trying again is useless.
    #[serde(default)]
    pub permanent: bool,
    /// When to try again, instead of the backoff.
    #[serde(default)]
    pub retry_at: Option<Date>,
    /// The end of what it printed.
    #[serde(default)]
    pub output_tail: Option<String>,
}

/// The attempt was stopped, as the server asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelledRequest {
    /// From the lease.
    #[serde(deserialize_with = "whole::number")]
    pub lease_token: u64,
    /// The end of what it printed.
    #[serde(default)]
    pub output_tail: Option<String>,
}

/// A lease, to be given back.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseTokenRequest {
    /// From the lease.
    #[schema(schema_with = schema::lease_token)]
    #[serde(deserialize_with = "whole::number")]
    pub lease_token: u64,
}

/// How far the handler is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressRequest {
    /// From the lease.
    #[schema(schema_with = schema::lease_token)]
    #[serde(deserialize_with = "whole::number")]
    pub lease_token: u64,
    /// In the handler's words.
    #[schema(max_length = 1024)]
    pub message: String,
}

impl From<v1::Worker> for Worker {
    fn from(worker: v1::Worker) -> Self {
        Self {
            session: worker.session,
            name: worker.name,
            slots: worker.slots,
            slots_used: worker.slots_used,
            queues: worker.queues,
            kinds: worker.kinds,
            connected_at: worker.connected_at.unwrap_or_default().into(),
            heartbeat_age: worker.heartbeat_age.map(Into::into).unwrap_or_default(),
            draining: worker.draining,
            tasks: worker.tasks,
        }
    }
}

impl From<v1::Stop> for Stop {
    fn from(stop: v1::Stop) -> Self {
        use v1::stop::Reason;
        let reason = match stop.reason() {
            Reason::Cancelled => StopReason::Cancelled,
            Reason::Timeout => StopReason::Timeout,
            Reason::LeaseLost | Reason::Unspecified => StopReason::LeaseLost,
        };
        Self { id: stop.shown_id, lease_token: stop.lease_token, reason }
    }
}

impl From<v1::ListWorkersResponse> for WorkerList {
    fn from(list: v1::ListWorkersResponse) -> Self {
        let workers = list.workers.into_iter().map(Into::into).collect();
        let as_of = list.as_of.map(Into::into);
        Self { workers, as_of, next_cursor: text(list.next_page_token) }
    }
}

impl From<v1::ServerInfo> for ServerInfo {
    fn from(info: v1::ServerInfo) -> Self {
        Self {
            version: info.version,
            node: info.node,
            leader: (!info.leader.is_empty()).then_some(info.leader),
            epoch: info.epoch,
            store: info.store,
            started_at: info.started_at.unwrap_or_default().into(),
            now: info.now.unwrap_or_default().into(),
            live_tasks: info.live_tasks,
            ready: info.ready,
            problem: (!info.problem.is_empty()).then_some(info.problem),
            feature_level: info.feature_level,
            cluster_feature_level: info.cluster_feature_level,
            limits: info.limits.into_iter().collect(),
        }
    }
}

impl From<v1::Dispatch> for DispatchedTask {
    fn from(task: v1::Dispatch) -> Self {
        let (payload, payload_base64) = json_or_base64(&task.payload);
        Self {
            id: task.shown_id,
            lease_token: task.lease_token,
            queue: task.queue,
            kind: task.kind,
            payload,
            payload_base64,
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            timeout: task.timeout.map(Into::into).unwrap_or_default(),
            labels: task.labels.into_iter().collect(),
            created_at: task.created_at.unwrap_or_default().into(),
            run_at: task.run_at.unwrap_or_default().into(),
            traceparent: text(task.traceparent),
            tracestate: text(task.tracestate),
        }
    }
}
