/// Passes the calls of a service to the macro `$with`, followed by the other arguments.
#[macro_export]
macro_rules! calls_of {
    (TaskService, $with:ident $($more:tt)*) => {
        $with! {
            TaskService {
                create_task($crate::v1::CreateTaskRequest) -> $crate::v1::CreateTaskResponse;
                create_tasks($crate::v1::CreateTasksRequest) -> $crate::v1::CreateTasksResponse;
                get_task($crate::v1::GetTaskRequest) -> $crate::v1::Task;
                list_tasks($crate::v1::ListTasksRequest) -> $crate::v1::ListTasksResponse;
                cancel_task($crate::v1::TaskRequest) -> $crate::v1::Task;
                retry_task($crate::v1::TaskRequest) -> $crate::v1::Task;
                reschedule_task($crate::v1::RescheduleTaskRequest) -> $crate::v1::Task;
                set_task_priority($crate::v1::SetTaskPriorityRequest) -> $crate::v1::Task;
                update_task($crate::v1::UpdateTaskRequest) -> $crate::v1::Task;
                delete_task($crate::v1::TaskRequest) -> $crate::v1::DeleteTaskResponse;
                count_tasks($crate::v1::CountTasksRequest) -> $crate::v1::CountTasksResponse;
                list_failures($crate::v1::ListFailuresRequest) -> $crate::v1::ListFailuresResponse;
                bulk_tasks($crate::v1::BulkTasksRequest) -> $crate::v1::BulkTasksResponse;
                list_attempts($crate::v1::TaskRequest) -> $crate::v1::ListAttemptsResponse;
                get_result($crate::v1::TaskRequest) -> $crate::v1::GetResultResponse;
            }
            $($more)*
        }
    };
    (QueueService, $with:ident $($more:tt)*) => {
        $with! {
            QueueService {
                list_queues($crate::v1::ListQueuesRequest) -> $crate::v1::ListQueuesResponse;
                pause_queue($crate::v1::PauseQueueRequest) -> $crate::v1::Queue;
                resume_queue($crate::v1::QueueRequest) -> $crate::v1::Queue;
            }
            $($more)*
        }
    };
    (ServerService, $with:ident $($more:tt)*) => {
        $with! {
            ServerService {
                get_server_info($crate::v1::GetServerInfoRequest) -> $crate::v1::ServerInfo;
                get_cluster($crate::v1::GetClusterRequest) -> $crate::v1::Cluster;
                get_node($crate::v1::GetNodeRequest) -> $crate::v1::Node;
                transfer_leadership($crate::v1::TransferLeadershipRequest) -> $crate::v1::TransferLeadershipResponse;
            }
            $($more)*
        }
    };
    (ScheduleService, $with:ident $($more:tt)*) => {
        $with! {
            ScheduleService {
                put_schedule($crate::v1::PutScheduleRequest) -> $crate::v1::PutScheduleResponse;
                get_schedule($crate::v1::ScheduleRequest) -> $crate::v1::Schedule;
                list_schedules($crate::v1::ListSchedulesRequest) -> $crate::v1::ListSchedulesResponse;
                delete_schedule($crate::v1::DeleteScheduleRequest) -> $crate::v1::DeleteScheduleResponse;
                pause_schedule($crate::v1::PauseScheduleRequest) -> $crate::v1::Schedule;
                resume_schedule($crate::v1::ScheduleRequest) -> $crate::v1::Schedule;
                pause_schedules($crate::v1::PauseSchedulesRequest) -> $crate::v1::BulkSchedulesResponse;
                resume_schedules($crate::v1::ResumeSchedulesRequest) -> $crate::v1::BulkSchedulesResponse;
                trigger_schedule($crate::v1::ScheduleRequest) -> $crate::v1::Task;
                skip_tick($crate::v1::SkipTickRequest) -> $crate::v1::Schedule;
                backfill_schedule($crate::v1::BackfillScheduleRequest) -> $crate::v1::BackfillScheduleResponse;
                cancel_backfill($crate::v1::ScheduleRequest) -> $crate::v1::Schedule;
                list_ticks($crate::v1::ListTicksRequest) -> $crate::v1::ListTicksResponse;
                preview_definition($crate::v1::PreviewDefinitionRequest) -> $crate::v1::SchedulePreview;
                preview_schedule($crate::v1::PreviewScheduleRequest) -> $crate::v1::SchedulePreview;
            }
            $($more)*
        }
    };
    (CalendarService, $with:ident $($more:tt)*) => {
        $with! {
            CalendarService {
                list_calendars($crate::v1::ListCalendarsRequest) -> $crate::v1::ListCalendarsResponse;
                get_calendar($crate::v1::CalendarRequest) -> $crate::v1::Calendar;
                put_calendar($crate::v1::PutCalendarRequest) -> $crate::v1::PutCalendarResponse;
                delete_calendar($crate::v1::DeleteCalendarRequest) -> $crate::v1::DeleteCalendarResponse;
            }
            $($more)*
        }
    };
    (NodeService, $with:ident $($more:tt)*) => {
        $with! {
            NodeService {
                get_log_filter($crate::node_v1::GetLogFilterRequest) -> $crate::node_v1::LogFilter;
                set_log_filter($crate::node_v1::SetLogFilterRequest) -> $crate::node_v1::LogFilter;
            }
            $($more)*
        }
    };
}
