//! The table of operations: one row for each operation of the API.
//!
//! All other code takes its knowledge of an operation from its row: the REST routes, which requests a
//! follower forwards, which need a token, which the client can retry, and the routes in metrics. Tests
//! compare the OpenAPI document and the gRPC descriptors with the table.

use std::{collections::HashMap, sync::LazyLock};

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`, and `HEAD`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

impl Method {
    /// The method of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "GET" | "HEAD" => Some(Self::Get),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "PATCH" => Some(Self::Patch),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// The effect of a repeat after the first request was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// None: the operation only reads.
    Read,
    /// None, and the answer is the same.
    Idempotent,
    /// As [`Idempotent`](Self::Idempotent) if every task has an id or an idempotency key, otherwise as
    /// [`Once`](Self::Once).
    IfNamed,
    /// A further effect, or another answer.
    Once,
}

impl Repeat {
    /// The effect for a request, given whether every task in it has an id or an idempotency key.
    #[must_use]
    pub const fn of_tasks(self, all_named: bool) -> Self {
        match self {
            Self::IfNamed if all_named => Self::Idempotent,
            Self::IfNamed => Self::Once,
            Self::Read | Self::Idempotent | Self::Once => self,
        }
    }

    /// Whether a repeat is safe after an unknown outcome. Assumes tasks without ids and keys.
    #[must_use]
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Read | Self::Idempotent)
    }
}

/// The node that carries out an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum By {
    /// The leader: other nodes forward the request.
    Leader,
    /// The node that receives the request.
    AnyNode,
}

/// The form and duration of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A request with an immediate answer.
    Call,
    /// A request whose answer comes when something happens or its wait is over.
    LongPoll,
    /// A stream of messages until one side ends it.
    Stream,
}

/// The callers of an operation. Today one token gives access to all operations, and the first two roles need
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Load balancers and probes. Open to everyone, under any host name.
    Probe,
    /// Readers of the API documentation. Open to everyone who can reach the server.
    Public,
    /// Scrapers of metrics.
    Metrics,
    /// Readers.
    Read,
    /// Submitters of tasks.
    Submit,
    /// Workers.
    Work,
    /// Operators, who manage tasks, queues, schedules and workers.
    Operate,
    /// Administrators of nodes.
    Admin,
}

impl Role {
    /// Whether callers must present a token if the server has tokens.
    #[must_use]
    pub const fn needs_token(self) -> bool {
        !matches!(self, Self::Probe | Self::Public)
    }
}

/// The REST route of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Http {
    /// The method.
    pub method: Method,
    /// The template of its path.
    pub path: &'static str,
}

struct Row {
    name: &'static str,
    http: Option<Http>,
    grpc: Option<&'static str>,
    repeat: Repeat,
    by: By,
    form: Form,
    role: Role,
    tag: Option<&'static str>,
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! operations {
    ($(
        $op:ident $name:literal [$($method:ident $path:literal)?] [$($grpc:literal)?]
        $repeat:ident $by:ident $form:ident $role:ident [$($tag:literal)?];
    )*) => {
        /// An operation of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation {
            $(#[doc = concat!("`", $name, "`.")] $op,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$op),*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$op => Row {
                        name: $name,
                        http: optional!($(Http { method: Method::$method, path: $path })?),
                        grpc: optional!($($grpc)?),
                        repeat: Repeat::$repeat,
                        by: By::$by,
                        form: Form::$form,
                        role: Role::$role,
                        tag: optional!($($tag)?),
                    },)*
                }
            }
        }
    };
}

// Operation, name, REST, gRPC, repeat, node, form, role, tag in the OpenAPI document.
operations! {
    CreateTask       "create_task"       [Post "/v1/tasks"]                 ["/rota.v1.TaskService/CreateTask"]      IfNamed    Leader Call Submit ["tasks"];
    CreateTasks      "create_tasks"      [Post "/v1/tasks/batch"]           ["/rota.v1.TaskService/CreateTasks"]     IfNamed    Leader Call Submit ["tasks"];
    GetTask          "get_task"          [Get "/v1/tasks/{id}"]             ["/rota.v1.TaskService/GetTask"]         Read       Leader LongPoll Read ["tasks"];
    ListTasks        "list_tasks"        [Get "/v1/tasks"]                  ["/rota.v1.TaskService/ListTasks"]       Read       Leader Call Read ["tasks"];
    // Not below /v1/tasks: a client can have given a task the id `count`.
    CountTasks       "count_tasks"       [Get "/v1/task-counts"]            ["/rota.v1.TaskService/CountTasks"]      Read       Leader Call Read ["tasks"];
    ListFailures     "list_failures"     [Get "/v1/failures"]               ["/rota.v1.TaskService/ListFailures"]    Read       Leader Call Read ["tasks"];
    CancelTask       "cancel_task"       [Post "/v1/tasks/{id}/cancel"]     ["/rota.v1.TaskService/CancelTask"]      Idempotent Leader Call Operate ["tasks"];
    RetryTask        "retry_task"        [Post "/v1/tasks/{id}/retry"]      ["/rota.v1.TaskService/RetryTask"]       Once       Leader Call Operate ["tasks"];
    RescheduleTask   "reschedule_task"   [Post "/v1/tasks/{id}/reschedule"] ["/rota.v1.TaskService/RescheduleTask"]  Once       Leader Call Operate ["tasks"];
    SetTaskPriority  "set_task_priority" [Post "/v1/tasks/{id}/priority"]   ["/rota.v1.TaskService/SetTaskPriority"] Idempotent Leader Call Operate ["tasks"];
    UpdateTask       "update_task"       [Patch "/v1/tasks/{id}"]           ["/rota.v1.TaskService/UpdateTask"]      Once       Leader Call Operate ["tasks"];
    DeleteTask       "delete_task"       [Delete "/v1/tasks/{id}"]          ["/rota.v1.TaskService/DeleteTask"]      Once       Leader Call Operate ["tasks"];
    BulkTasks        "bulk_tasks"        [Post "/v1/tasks/bulk"]            ["/rota.v1.TaskService/BulkTasks"]       Once       Leader Call Operate ["tasks"];
    ListAttempts     "list_attempts"     [Get "/v1/tasks/{id}/attempts"]    ["/rota.v1.TaskService/ListAttempts"]    Read       Leader Call Read ["tasks"];
    GetResult        "get_result"        [Get "/v1/tasks/{id}/result"]      ["/rota.v1.TaskService/GetResult"]       Read       Leader Call Read ["tasks"];
    WatchOutput    "watch_output"    [Get "/v1/tasks/{id}/logs"]          ["/rota.v1.TaskService/WatchOutput"]    Read       Leader Stream Read ["tasks"];

    ListQueues  "list_queues"  [Get "/v1/queues"]                 ["/rota.v1.QueueService/ListQueues"]  Read       Leader Call Read ["queues"];
    GetQueue    "get_queue"    [Get "/v1/queues/{queue}"]         []                                    Read       Leader Call Read ["queues"];
    PauseQueue  "pause_queue"  [Post "/v1/queues/{queue}/pause"]  ["/rota.v1.QueueService/PauseQueue"]  Idempotent Leader Call Operate ["queues"];
    ResumeQueue "resume_queue" [Post "/v1/queues/{queue}/resume"] ["/rota.v1.QueueService/ResumeQueue"] Idempotent Leader Call Operate ["queues"];

    PutSchedule       "put_schedule"       [Put "/v1/schedules/{name}"]              ["/rota.v1.ScheduleService/PutSchedule"]       Idempotent Leader Call Operate ["schedules"];
    GetSchedule       "get_schedule"       [Get "/v1/schedules/{name}"]              ["/rota.v1.ScheduleService/GetSchedule"]       Read       Leader Call Read ["schedules"];
    ListSchedules     "list_schedules"     [Get "/v1/schedules"]                     ["/rota.v1.ScheduleService/ListSchedules"]     Read       Leader Call Read ["schedules"];
    DeleteSchedule    "delete_schedule"    [Delete "/v1/schedules/{name}"]           ["/rota.v1.ScheduleService/DeleteSchedule"]    Once       Leader Call Operate ["schedules"];
    PauseSchedule     "pause_schedule"     [Post "/v1/schedules/{name}/pause"]       ["/rota.v1.ScheduleService/PauseSchedule"]     Idempotent Leader Call Operate ["schedules"];
    ResumeSchedule    "resume_schedule"    [Post "/v1/schedules/{name}/resume"]      ["/rota.v1.ScheduleService/ResumeSchedule"]    Idempotent Leader Call Operate ["schedules"];
    PauseSchedules    "pause_schedules"    [Post "/v1/schedules/pause"]              ["/rota.v1.ScheduleService/PauseSchedules"]    Once       Leader Call Operate ["schedules"];
    ResumeSchedules   "resume_schedules"   [Post "/v1/schedules/resume"]             ["/rota.v1.ScheduleService/ResumeSchedules"]   Once       Leader Call Operate ["schedules"];
    TriggerSchedule   "trigger_schedule"   [Post "/v1/schedules/{name}/trigger"]     ["/rota.v1.ScheduleService/TriggerSchedule"]   Once       Leader Call Operate ["schedules"];
    SkipTick          "skip_tick"          [Post "/v1/schedules/{name}/skip"]        ["/rota.v1.ScheduleService/SkipTick"]          Idempotent Leader Call Operate ["schedules"];
    BackfillSchedule  "backfill_schedule"  [Post "/v1/schedules/{name}/backfill"]    ["/rota.v1.ScheduleService/BackfillSchedule"]  Once       Leader Call Operate ["schedules"];
    CancelBackfill    "cancel_backfill"    [Delete "/v1/schedules/{name}/backfill"]  ["/rota.v1.ScheduleService/CancelBackfill"]    Once       Leader Call Operate ["schedules"];
    ListTicks         "list_ticks"         [Get "/v1/schedules/{name}/ticks"]        ["/rota.v1.ScheduleService/ListTicks"]         Read       Leader Call Read ["schedules"];
    PreviewDefinition "preview_definition" [Post "/v1/schedules/preview"]            ["/rota.v1.ScheduleService/PreviewDefinition"] Idempotent Leader Call Read ["schedules"];
    PreviewSchedule   "preview_schedule"   [Get "/v1/schedules/{name}/preview"]      ["/rota.v1.ScheduleService/PreviewSchedule"]   Read       Leader Call Read ["schedules"];

    ListCalendars  "list_calendars"  [Get "/v1/calendars"]           ["/rota.v1.CalendarService/ListCalendars"]  Read       Leader Call Read ["calendars"];
    GetCalendar    "get_calendar"    [Get "/v1/calendars/{name}"]    ["/rota.v1.CalendarService/GetCalendar"]    Read       Leader Call Read ["calendars"];
    PutCalendar    "put_calendar"    [Put "/v1/calendars/{name}"]    ["/rota.v1.CalendarService/PutCalendar"]    Idempotent Leader Call Operate ["calendars"];
    DeleteCalendar "delete_calendar" [Delete "/v1/calendars/{name}"] ["/rota.v1.CalendarService/DeleteCalendar"] Once       Leader Call Operate ["calendars"];

    ListWorkers "list_workers" [Get "/v1/workers"]                 ["/rota.v1.WorkerService/ListWorkers"] Read       Leader Call Read ["workers"];
    DrainWorker "drain_worker" [Post "/v1/workers/{worker}/drain"] ["/rota.v1.WorkerService/DrainWorker"] Idempotent Leader Call Operate ["workers"];

    Work            "work"             []                                         ["/rota.v1.WorkerService/Work"]            Once       Leader Stream Work [];
    LeaseTasks      "lease_tasks"      [Post "/v1/leases"]                        ["/rota.v1.WorkerService/Lease"]           Once       Leader LongPoll Work ["Worker API"];
    Heartbeat       "heartbeat"        [Post "/v1/sessions/{session}/heartbeat"]  ["/rota.v1.WorkerService/Heartbeat"]       Idempotent Leader Call Work ["Worker API"];
    CloseSession    "close_session"    [Delete "/v1/sessions/{session}"]          ["/rota.v1.WorkerService/CloseSession"]    Once       Leader Call Work ["Worker API"];
    CompleteTask    "complete_task"    [Post "/v1/tasks/{id}/complete"]           ["/rota.v1.WorkerService/Complete"]        Idempotent Leader Call Work ["Worker API"];
    FailTask        "fail_task"        [Post "/v1/tasks/{id}/fail"]               ["/rota.v1.WorkerService/Fail"]            Idempotent Leader Call Work ["Worker API"];
    ReportCancelled "report_cancelled" [Post "/v1/tasks/{id}/cancelled"]          ["/rota.v1.WorkerService/ReportCancelled"] Idempotent Leader Call Work ["Worker API"];
    SnoozeTask      "snooze_task"      [Post "/v1/tasks/{id}/snooze"]             ["/rota.v1.WorkerService/Snooze"]          Idempotent Leader Call Work ["Worker API"];
    ReleaseTask     "release_task"     [Post "/v1/tasks/{id}/release"]            ["/rota.v1.WorkerService/Release"]         Idempotent Leader Call Work ["Worker API"];
    ReportProgress  "report_progress"  [Post "/v1/tasks/{id}/progress"]           ["/rota.v1.WorkerService/ReportProgress"]  Idempotent Leader Call Work ["Worker API"];

    WatchEvents "watch_events" [Get "/v1/events"] ["/rota.v1.EventService/WatchEvents"] Read Leader Stream Read ["events"];

    GetServerInfo      "get_server_info"     [Get "/v1/info"]              ["/rota.v1.ServerService/GetServerInfo"]      Read AnyNode Call Read ["server"];
    GetCluster         "get_cluster"         [Get "/v1/cluster"]           ["/rota.v1.ServerService/GetCluster"]         Read AnyNode Call Read ["server"];
    GetNode            "get_node"            [Get "/v1/node"]              ["/rota.v1.ServerService/GetNode"]            Read AnyNode Call Read ["server"];
    TransferLeadership "transfer_leadership" [Post "/v1/cluster/transfer"] ["/rota.v1.ServerService/TransferLeadership"] Once Leader  Call Admin ["server"];
    GetLogFilter       "get_log_filter"      [Get "/node/log-filter"]      ["/rota.node.v1.NodeService/GetLogFilter"]    Read AnyNode Call Operate ["node"];
    // A retry at another node would change that node, too.
    SetLogFilter       "set_log_filter"      [Put "/node/log-filter"]      ["/rota.node.v1.NodeService/SetLogFilter"]    Once AnyNode Call Admin ["node"];

    IsAlive           "healthz"                  [Get "/healthz"]      [] Read AnyNode Call Probe ["server"];
    IsReady           "readyz"                   [Get "/readyz"]       [] Read AnyNode Call Probe ["server"];
    Metrics           "metrics"                  [Get "/metrics"]      [] Read AnyNode Call Metrics ["server"];
    Index             "index"                    [Get "/"]             [] Read AnyNode Call Public [];
    Docs              "docs"                     [Get "/docs"]         [] Read AnyNode Call Public [];
    DocsFile          "docs_file"                [Get "/docs/{file}"]  [] Read AnyNode Call Public [];
    OpenApi           "openapi"                  [Get "/openapi.json"] [] Read AnyNode Call Public [];

    // The dashboard checks sessions itself. The names of its pages are its own business.
    DashboardBase   "dashboard_base"   [Get "/ui"]                      [] Read AnyNode Call Public [];
    DashboardHome   "dashboard_home"   [Get "/ui/"]                     [] Read AnyNode Call Public [];
    DashboardPage   "dashboard_page"   [Get "/ui/{page}"]               [] Read AnyNode Call Public [];
    DashboardAction "dashboard_action" [Post "/ui/{page}"]              [] Once AnyNode Call Public [];
    DashboardLive   "dashboard_live"   [Get "/ui/live"]                 [] Read AnyNode Stream Public [];
    DashboardAsset  "dashboard_asset"  [Get "/ui/assets/{hash}/{file}"] [] Read AnyNode Call Public [];

    CheckHealth       "grpc_check_health"        [] ["/grpc.health.v1.Health/Check"] Read AnyNode Call Read [];
    WatchHealth       "grpc_watch_health"        [] ["/grpc.health.v1.Health/Watch"] Read AnyNode Stream Read [];
    Reflect           "grpc_reflect"             [] ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] Read AnyNode Stream Read [];
    ReflectAlpha      "grpc_reflect_v1alpha"     [] ["/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"] Read AnyNode Stream Read [];
}

impl Operation {
    /// Its name, which is also its `operationId` in the OpenAPI document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Its REST route.
    #[must_use]
    pub const fn http(self) -> Option<Http> {
        self.row().http
    }

    /// Its gRPC path, `/package.Service/Method`.
    #[must_use]
    pub const fn grpc(self) -> Option<&'static str> {
        self.row().grpc
    }

    /// The effect of a repeat.
    #[must_use]
    pub const fn repeat(self) -> Repeat {
        self.row().repeat
    }

    /// Whether it only reads.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self.repeat(), Repeat::Read)
    }

    /// Whether only the leader can carry it out. Other nodes forward the request.
    #[must_use]
    pub const fn needs_leader(self) -> bool {
        matches!(self.row().by, By::Leader)
    }

    /// Its form and duration.
    #[must_use]
    pub const fn form(self) -> Form {
        self.row().form
    }

    /// Who can call it.
    #[must_use]
    pub const fn role(self) -> Role {
        self.row().role
    }

    /// Its group in the OpenAPI document. `None` for operations that are not in the document.
    #[must_use]
    pub const fn tag(self) -> Option<&'static str> {
        self.row().tag
    }

    /// Whether the dashboard answers it. Its pages are no part of the API: they are a client of it.
    #[must_use]
    pub const fn is_of_dashboard(self) -> bool {
        matches!(
            self,
            Self::DashboardBase
                | Self::DashboardHome
                | Self::DashboardPage
                | Self::DashboardAction
                | Self::DashboardLive
                | Self::DashboardAsset
        )
    }

    /// The operation at this gRPC path.
    #[must_use]
    pub fn of_grpc(path: &str) -> Option<Self> {
        static PATHS: LazyLock<HashMap<&'static str, Operation>> = LazyLock::new(|| {
            Operation::ALL.iter().filter_map(|op| Some((op.grpc()?, *op))).collect()
        });
        PATHS.get(path).copied()
    }
}

/// A REST path and its operations.
#[derive(Debug)]
pub struct Route {
    template: &'static str,
    operations: Vec<(Method, Operation)>,
}

impl Route {
    /// The route of this path.
    #[must_use]
    pub fn of(path: &str) -> Option<&'static Self> {
        static ROUTES: LazyLock<matchit::Router<Route>> = LazyLock::new(routes);
        ROUTES.at(path).ok().map(|found| found.value)
    }

    /// The template of its path.
    #[must_use]
    pub fn template(&self) -> &'static str {
        self.template
    }

    /// The operation of this method, by its name in HTTP.
    #[must_use]
    pub fn operation(&self, method: &str) -> Option<Operation> {
        let method = Method::parse(method)?;
        self.operations.iter().find(|(other, _)| *other == method).map(|(_, op)| *op)
    }
}

fn routes() -> matchit::Router<Route> {
    let mut by_path: HashMap<&'static str, Vec<(Method, Operation)>> = HashMap::new();
    for op in Operation::ALL {
        if let Some(Http { method, path }) = op.http() {
            by_path.entry(path).or_default().push((method, *op));
        }
    }
    let mut router = matchit::Router::new();
    for (template, operations) in by_path {
        // Colliding templates fail the test below.
        let _ = router.insert(template, Route { template, operations });
    }
    router
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_operation_is_found_where_its_row_puts_it() {
        for op in Operation::ALL {
            if let Some(Http { method, path }) = op.http() {
                let name = format!("{method:?}").to_uppercase();
                let route = Route::of(&path.replace(['{', '}'], "")).expect(path);
                assert_eq!((route.template(), route.operation(&name)), (path, Some(*op)));
            }
            if let Some(path) = op.grpc() {
                assert_eq!(Operation::of_grpc(path), Some(*op));
            }
            assert!(op.http().is_some() || op.grpc().is_some(), "{op:?} can be asked for");
            assert!(op.tag().is_none() || op.http().is_some(), "{op:?} has a tag and no path");
        }
        let names: BTreeSet<_> = Operation::ALL.iter().map(|op| op.name()).collect();
        assert_eq!(names.len(), Operation::ALL.len());
        assert_eq!(
            Route::of("/healthz").and_then(|it| it.operation("HEAD")),
            Some(Operation::IsAlive)
        );
        assert!(Route::of("/healthz").is_some_and(|it| it.operation("POST").is_none()));
        for path in ["/v1/nothing", "/v1/tasks/", "/v1/server/", "//", ""] {
            assert!(Route::of(path).is_none(), "{path}");
        }
        assert_eq!(Operation::of_grpc("/rota.v1.TaskService/MadeUp"), None);
    }

    #[test]
    fn get_is_what_only_reads() {
        for op in Operation::ALL {
            if let Some(http) = op.http() {
                assert_eq!(op.reads(), http.method == Method::Get, "{op:?}");
            }
            let names_tasks = matches!(op, Operation::CreateTask | Operation::CreateTasks);
            assert_eq!(op.repeat() == Repeat::IfNamed, names_tasks, "{op:?}");
        }
    }

    #[test]
    fn the_table_holds_the_methods_of_the_services_and_no_others() {
        let set = FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let mut described = BTreeMap::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let stream = method.client_streaming() || method.server_streaming();
                    described.insert(path, stream);
                }
            }
        }
        let rows = Operation::ALL.iter().filter_map(|op| Some((op.grpc()?, op.form())));
        let rows = rows.filter(|(path, _)| path.starts_with("/rota."));
        let rows: BTreeMap<_, _> =
            rows.map(|(path, form)| (path.to_owned(), form == Form::Stream)).collect();
        assert_eq!(rows, described);
    }
}
