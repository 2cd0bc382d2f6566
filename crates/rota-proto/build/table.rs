//! The messages that have a JSON form, and the fields whose form does not follow from their type.

/// Messages in answers of REST, and the names of their schemas if they differ.
pub(crate) const SHOWN: &[(&str, &str)] = &[
    (".rota.v1.Task", ""),
    (".rota.v1.RetryPolicy", ""),
    (".rota.v1.TaskError", ""),
    (".rota.v1.Waiting", ""),
    (".rota.v1.ListTasksResponse", "TaskList"),
    (".rota.v1.CreateTasksResponse.Created", ""),
    (".rota.v1.Attempt", ""),
    (".rota.v1.ListAttemptsResponse", "AttemptList"),
    (".rota.v1.Queue", ""),
    (".rota.v1.ListQueuesResponse", "QueueList"),
    (".rota.v1.Worker", ""),
    (".rota.v1.ListWorkersResponse", "WorkerList"),
    (".rota.v1.ServerInfo", ""),
    (".rota.v1.Cluster", ""),
    (".rota.v1.Node", ""),
    (".rota.v1.StoreState", ""),
    (".rota.v1.StoreLoss", ""),
    (".rota.v1.TransferLeadershipResponse", "TransferResponse"),
    (".rota.v1.LeaseResponse", ""),
    (".rota.v1.HeartbeatResponse", ""),
    (".rota.v1.Dispatch", "DispatchedTask"),
    (".rota.v1.Stop", ""),
    (".rota.node.v1.LogFilter", ""),
];

/// Messages in requests of REST, and the names of their schemas if they differ.
pub(crate) const READ: &[(&str, &str)] = &[
    (".rota.v1.NewTask", ""),
    (".rota.v1.RetryPolicy", ""),
    (".rota.v1.TaskChange", ""),
    (".rota.v1.CreateTasksRequest", "NewTaskBatch"),
    (".rota.v1.RescheduleTaskRequest", "RescheduleRequest"),
    (".rota.v1.SetTaskPriorityRequest", "PriorityRequest"),
    (".rota.v1.BulkTasksRequest", "BulkRequest"),
    (".rota.v1.LeaseRequest", ""),
    (".rota.v1.Lease", "HeldLease"),
    (".rota.v1.CompleteRequest", ""),
    (".rota.v1.ReportCancelledRequest", "CancelledRequest"),
    (".rota.v1.SnoozeRequest", ""),
    (".rota.v1.ReleaseRequest", "LeaseTokenRequest"),
    (".rota.v1.ReportProgressRequest", "ProgressRequest"),
    (".rota.v1.TransferLeadershipRequest", "TransferRequest"),
    (".rota.node.v1.SetLogFilterRequest", "LogFilterRequest"),
];

/// Answers that other nodes and tests parse. Unknown members, from another version, are not an error.
pub(crate) const READ_BACK: &[&str] = &[
    ".rota.v1.Queue",
    ".rota.v1.ListQueuesResponse",
    ".rota.v1.Worker",
    ".rota.v1.ListWorkersResponse",
    ".rota.v1.Cluster",
    ".rota.v1.Node",
    ".rota.v1.StoreState",
    ".rota.v1.StoreLoss",
];

/// Enumerations that have words in JSON, and the names of their schemas.
pub(crate) const WORDS: &[(&str, &str, &str)] = &[
    (".rota.v1.TaskStatus", "v1::TaskStatus", "TaskStatus"),
    (".rota.v1.Jitter", "v1::Jitter", "Jitter"),
    (".rota.v1.FailureReason", "v1::FailureReason", "FailureReason"),
    (".rota.v1.AttemptOutcome", "v1::AttemptOutcome", "AttemptOutcome"),
    (".rota.v1.Waiting.Reason", "v1::waiting::Reason", "WaitingReason"),
    (".rota.v1.BulkAction", "v1::BulkAction", "BulkAction"),
    (".rota.v1.NodeRole", "v1::NodeRole", "NodeRole"),
    (".rota.v1.Stop.Reason", "v1::stop::Reason", "StopReason"),
];

/// Fields without a JSON form: parts of a path, and ids that only streams of gRPC use.
pub(crate) const SKIPPED: &[&str] = &[
    "RescheduleTaskRequest.id",
    "SetTaskPriorityRequest.id",
    "CompleteRequest.id",
    "ReportCancelledRequest.id",
    "SnoozeRequest.id",
    "ReleaseRequest.id",
    "ReportProgressRequest.id",
    "Dispatch.task_id",
    "Stop.task_id",
];

/// Fields with another name in JSON.
pub(crate) const RENAMED: &[(&str, &str)] = &[
    ("ListTasksResponse.next_page_token", "next_cursor"),
    ("ListQueuesResponse.next_page_token", "next_cursor"),
    ("ListWorkersResponse.next_page_token", "next_cursor"),
    ("BulkTasksRequest.page_token", "cursor"),
    ("Dispatch.shown_id", "id"),
    ("Stop.shown_id", "id"),
    ("Lease.task_id", "id"),
];

/// Message fields that are always present in answers, although protobuf treats every message as optional.
pub(crate) const ALWAYS_SHOWN: &[&str] = &[
    "Task.created_at",
    "Task.run_at",
    "Task.timeout",
    "Task.retry",
    "Attempt.assigned_at",
    "Worker.connected_at",
    "Worker.heartbeat_age",
    "ServerInfo.started_at",
    "ServerInfo.now",
    "Cluster.store",
    "LeaseResponse.ttl",
    "Dispatch.timeout",
    "Dispatch.created_at",
    "Dispatch.run_at",
];

/// Serde attributes of fields whose JSON form does not follow from their type.
pub(crate) const SERDE: &[(&str, &str)] = &[
    ("Task.payload", r#"flatten, serialize_with = "crate::json::content::show_json""#),
    ("Dispatch.payload", r#"flatten, serialize_with = "crate::json::content::show_json""#),
    ("Attempt.output_tail", r#"flatten, serialize_with = "crate::json::content::show_text""#),
    (
        "NewTask.payload",
        r#"default, alias = "payload_base64", deserialize_with = "crate::json::content::read""#,
    ),
    (
        "TaskChange.payload",
        r#"default, alias = "payload_base64", deserialize_with = "crate::json::content::read""#,
    ),
    ("CompleteRequest.result", r#"default, deserialize_with = "crate::json::content::read_json""#),
    (
        "CompleteRequest.output_tail",
        r#"default, deserialize_with = "crate::json::content::read_text""#,
    ),
    (
        "ReportCancelledRequest.output_tail",
        r#"default, deserialize_with = "crate::json::content::read_text""#,
    ),
    (
        "SnoozeRequest.output_tail",
        r#"default, deserialize_with = "crate::json::content::read_text""#,
    ),
    ("BulkTasksRequest.filter", r#"deserialize_with = "crate::json::filter::read""#),
    ("LeaseRequest.held", r#"default, deserialize_with = "crate::json::held""#),
];

/// Schema attributes beyond those of the type.
pub(crate) const SCHEMA: &[(&str, &str)] = &[
    ("Task.payload", "schema_with = crate::json::content::payload_schema"),
    ("Dispatch.payload", "schema_with = crate::json::content::payload_schema"),
    ("Attempt.output_tail", "schema_with = crate::json::content::output_schema"),
    ("NewTask.id", "schema_with = crate::json::schema::task_id"),
    ("NewTask.queue", NAME_IN_PATH),
    ("NewTask.queue", r#"examples("images")"#),
    ("NewTask.kind", NAME_IN_PATH),
    ("NewTask.kind", r#"examples("resize")"#),
    ("NewTask.payload", "value_type = Option<serde_json::Value>"),
    ("NewTask.labels", "schema_with = crate::json::schema::labels"),
    ("NewTask.description", r#"min_length = 1, max_length = 256, pattern = r"^[^\u0000]+$""#),
    ("NewTask.priority", "minimum = 0, maximum = 9"),
    (
        "NewTask.idempotency_key",
        r#"min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$""#,
    ),
    ("TaskChange.description", r#"min_length = 1, max_length = 256, pattern = r"^[^\u0000]+$""#),
    ("TaskChange.payload", "value_type = Option<serde_json::Value>"),
    ("TaskChange.labels", "schema_with = crate::json::schema::labels"),
    ("TaskChange.priority", "minimum = 0, maximum = 9"),
    ("RetryPolicy.max_attempts", "minimum = 1, maximum = 1000"),
    ("RetryPolicy.multiplier", "minimum = 1, maximum = 100"),
    ("RetryPolicy.max_lost", "minimum = 0, maximum = 1000"),
    ("RetryPolicy.max_snoozes", "minimum = 0, maximum = 10000"),
    ("CreateTasksRequest.tasks", "min_items = 1, max_items = 1000"),
    ("SetTaskPriorityRequest.priority", "minimum = 0, maximum = 9"),
    ("BulkTasksRequest.filter", "value_type = crate::json::TaskFilter, required"),
    ("BulkTasksRequest.limit", "minimum = 1, maximum = 1000"),
    ("BulkTasksRequest.page_token", r#"pattern = "^(t_[0-9a-f][0-9a-hjkmnp-tv-z]{12})?$""#),
    ("LeaseRequest.worker", NAME_IN_PATH),
    ("LeaseRequest.worker", r#"examples("my-script")"#),
    ("LeaseRequest.session", r#"pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$""#),
    ("LeaseRequest.queues", "schema_with = crate::json::schema::served"),
    ("LeaseRequest.kinds", "schema_with = crate::json::schema::served"),
    ("LeaseRequest.max", "minimum = 1, maximum = 1000"),
    ("LeaseRequest.held", "value_type = Option<Vec<Lease>>"),
    ("CompleteRequest.lease_token", LEASE_TOKEN),
    ("CompleteRequest.result", "value_type = Option<serde_json::Value>"),
    ("CompleteRequest.output_tail", "value_type = Option<String>"),
    ("ReportCancelledRequest.lease_token", LEASE_TOKEN),
    ("ReportCancelledRequest.output_tail", "value_type = Option<String>"),
    ("SnoozeRequest.lease_token", LEASE_TOKEN),
    ("SnoozeRequest.output_tail", "value_type = Option<String>"),
    ("ReleaseRequest.lease_token", LEASE_TOKEN),
    ("ReportProgressRequest.lease_token", LEASE_TOKEN),
    ("ReportProgressRequest.message", "max_length = 1024"),
    (
        "TransferLeadershipRequest.to",
        r#"min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$""#,
    ),
    (
        "SetLogFilterRequest.filter",
        r#"example = "info,rota_engine=debug", min_length = 1, max_length = 1024"#,
    ),
    ("LogFilter.filter", r#"example = "info,rota_engine=debug""#),
];

/// A name with a character besides dots: paths cannot name `.` and `..`.
const NAME_IN_PATH: &str = r#"min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$""#;
const LEASE_TOKEN: &str = "schema_with = crate::json::schema::lease_token";
