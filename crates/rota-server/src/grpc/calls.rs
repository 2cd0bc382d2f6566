//! The unary gRPC methods, and the operation that each calls.
//!
//! `work` has `WorkerService`, because of its stream, and `events` has `EventService`. The stream of a task's output is
//! here, because it belongs to `TaskService`.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::StreamExt;

use rota_proto::{
    node_v1::{self, node_service_server::NodeService},
    v1::{
        self, calendar_service_server::CalendarService, queue_service_server::QueueService,
        schedule_service_server::ScheduleService, server_service_server::ServerService,
        task_service_server::TaskService,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    operations::{Caller, Results},
    services::Services,
};

/// The caller of a request.
pub(super) fn caller<T>(request: &Request<T>) -> Caller {
    Caller::of_headers(request.metadata().as_ref(), Results::Bytes)
}

/// Implements a service: `method(request) -> response = operation`, and the other items of its trait.
macro_rules! calls {
    (
        $service:ident {
            $($method:ident($request:ty) -> $response:ty = $operation:ident;)*
        }
        $(and { $($more:tt)* })?
    ) => {
        #[tonic::async_trait]
        impl $service for Services {
            $(
                async fn $method(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    let caller = caller(&request);
                    Ok(Response::new(self.$operation(caller, request.into_inner()).await?))
                }
            )*

            $($($more)*)?
        }
    };
}
pub(super) use calls;

calls! {
    TaskService {
        create_task(v1::CreateTaskRequest) -> v1::CreateTaskResponse = create_task;
        create_tasks(v1::CreateTasksRequest) -> v1::CreateTasksResponse = create_tasks;
        get_task(v1::GetTaskRequest) -> v1::Task = get_task;
        list_tasks(v1::ListTasksRequest) -> v1::ListTasksResponse = list_tasks;
        cancel_task(v1::TaskRequest) -> v1::Task = cancel_task;
        retry_task(v1::TaskRequest) -> v1::Task = retry_task;
        reschedule_task(v1::RescheduleTaskRequest) -> v1::Task = reschedule_task;
        set_task_priority(v1::SetTaskPriorityRequest) -> v1::Task = set_task_priority;
        update_task(v1::UpdateTaskRequest) -> v1::Task = update_task;
        delete_task(v1::TaskRequest) -> v1::DeleteTaskResponse = delete_task;
        count_tasks(v1::CountTasksRequest) -> v1::CountTasksResponse = count_tasks;
        list_failures(v1::ListFailuresRequest) -> v1::ListFailuresResponse = list_failures;
        bulk_tasks(v1::BulkTasksRequest) -> v1::BulkTasksResponse = bulk_tasks;
        list_attempts(v1::TaskRequest) -> v1::ListAttemptsResponse = list_attempts;
        get_result(v1::TaskRequest) -> v1::GetResultResponse = get_result;
    }
    and {
        type WatchOutputStream = Pin<Box<dyn Stream<Item = Result<v1::TaskOutput, Status>> + Send>>;

        async fn watch_output(
            &self,
            request: Request<v1::WatchOutputRequest>,
        ) -> Result<Response<Self::WatchOutputStream>, Status> {
            let caller = caller(&request);
            let output = self.watch_output(caller, request.into_inner()).await?;
            Ok(Response::new(Box::pin(output.map(Ok))))
        }
    }
}

calls! {
    QueueService {
        list_queues(v1::ListQueuesRequest) -> v1::ListQueuesResponse = list_queues;
        pause_queue(v1::PauseQueueRequest) -> v1::Queue = pause_queue;
        resume_queue(v1::QueueRequest) -> v1::Queue = resume_queue;
    }
}

calls! {
    ScheduleService {
        put_schedule(v1::PutScheduleRequest) -> v1::PutScheduleResponse = put_schedule;
        get_schedule(v1::ScheduleRequest) -> v1::Schedule = get_schedule;
        list_schedules(v1::ListSchedulesRequest) -> v1::ListSchedulesResponse = list_schedules;
        delete_schedule(v1::DeleteScheduleRequest) -> v1::DeleteScheduleResponse = delete_schedule;
        pause_schedule(v1::PauseScheduleRequest) -> v1::Schedule = pause_schedule;
        resume_schedule(v1::ScheduleRequest) -> v1::Schedule = resume_schedule;
        pause_schedules(v1::PauseSchedulesRequest) -> v1::BulkSchedulesResponse = pause_schedules;
        resume_schedules(v1::ResumeSchedulesRequest) -> v1::BulkSchedulesResponse
            = resume_schedules;
        trigger_schedule(v1::ScheduleRequest) -> v1::Task = trigger_schedule;
        skip_tick(v1::SkipTickRequest) -> v1::Schedule = skip_tick;
        backfill_schedule(v1::BackfillScheduleRequest) -> v1::BackfillScheduleResponse
            = backfill_schedule;
        cancel_backfill(v1::ScheduleRequest) -> v1::Schedule = cancel_backfill;
        list_ticks(v1::ListTicksRequest) -> v1::ListTicksResponse = list_ticks;
        preview_definition(v1::PreviewDefinitionRequest) -> v1::SchedulePreview
            = preview_definition;
        preview_schedule(v1::PreviewScheduleRequest) -> v1::SchedulePreview = preview_schedule;
    }
}

calls! {
    CalendarService {
        list_calendars(v1::ListCalendarsRequest) -> v1::ListCalendarsResponse = list_calendars;
        get_calendar(v1::CalendarRequest) -> v1::Calendar = get_calendar;
        put_calendar(v1::PutCalendarRequest) -> v1::PutCalendarResponse = put_calendar;
        delete_calendar(v1::DeleteCalendarRequest) -> v1::DeleteCalendarResponse = delete_calendar;
    }
}

calls! {
    ServerService {
        get_server_info(v1::GetServerInfoRequest) -> v1::ServerInfo = get_server_info;
        get_cluster(v1::GetClusterRequest) -> v1::Cluster = get_cluster;
        get_node(v1::GetNodeRequest) -> v1::Node = get_node;
        transfer_leadership(v1::TransferLeadershipRequest) -> v1::TransferLeadershipResponse
            = transfer_leadership;
    }
}

calls! {
    NodeService {
        get_log_filter(node_v1::GetLogFilterRequest) -> node_v1::LogFilter = get_log_filter;
        set_log_filter(node_v1::SetLogFilterRequest) -> node_v1::LogFilter = set_log_filter;
    }
}
