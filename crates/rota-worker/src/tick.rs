//! The tick of the schedule that created a task: for handlers as a value, for programs and requests as text.

use std::time::SystemTime;

use rota_client::Date;
use rota_proto::v1;

/// The tick of a schedule that created a task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// Name of the schedule.
    pub schedule: String,
    /// Nominal time of the tick: the time that the schedule names, also after a delay, a retry or a catch-up. `None` for
    /// a task that a client triggered.
    pub nominal_time: Option<SystemTime>,
    /// Nominal time of the tick before that created a task.
    pub previous_time: Option<SystemTime>,
    /// Nominal time of the last tick whose task completed, as known when the task was created.
    pub last_success_time: Option<SystemTime>,
    /// Time at which this worker started the attempt.
    pub actual_time: SystemTime,
}

impl Tick {
    pub(crate) fn of(tick: &v1::TickContext, actual_time: SystemTime) -> Self {
        let v1::TickContext { schedule, nominal_time, previous_time, last_success_time } = tick;
        let time = |date: &Option<Date>| date.map(SystemTime::from);
        Self {
            schedule: schedule.clone(),
            nominal_time: time(nominal_time),
            previous_time: time(previous_time),
            last_success_time: time(last_success_time),
            actual_time,
        }
    }

    /// The parts that executors pass on, by name. An absent time is `None`. The texts consist of letters, digits and
    /// `._:/-`, so they need no quotes in a shell, in JSON or in a URL.
    #[cfg(any(feature = "command", feature = "http"))]
    pub(crate) fn parts(&self) -> [(Part, Option<String>); 5] {
        // Nominal times are whole seconds.
        let text = |time: SystemTime| Date::from(time).timestamp().to_string();
        let actual = Date::from(self.actual_time).to_string();
        [
            (Part::SCHEDULE, Some(self.schedule.clone())),
            (Part::NOMINAL_TIME, self.nominal_time.map(text)),
            (Part::PREVIOUS_TIME, self.previous_time.map(text)),
            (Part::LAST_SUCCESS_TIME, self.last_success_time.map(text)),
            (Part::ACTUAL_TIME, Some(actual)),
        ]
    }
}

/// The names of a part of a tick.
#[cfg(any(feature = "command", feature = "http"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// In a template.
    pub(crate) template: &'static str,
    /// In the environment of a program.
    #[cfg_attr(
        not(feature = "command"),
        expect(dead_code, reason = "only programs have variables")
    )]
    pub(crate) variable: &'static str,
    /// In a request.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only requests have headers"))]
    pub(crate) header: &'static str,
}

#[cfg(any(feature = "command", feature = "http"))]
impl Part {
    const SCHEDULE: Self =
        Self { template: "{{schedule}}", variable: "ROTA_SCHEDULE", header: "rota-schedule" };
    const NOMINAL_TIME: Self = Self {
        template: "{{nominal_time}}",
        variable: "ROTA_NOMINAL_TIME",
        header: "rota-nominal-time",
    };
    const PREVIOUS_TIME: Self = Self {
        template: "{{previous_time}}",
        variable: "ROTA_PREVIOUS_TIME",
        header: "rota-previous-time",
    };
    const LAST_SUCCESS_TIME: Self = Self {
        template: "{{last_success_time}}",
        variable: "ROTA_LAST_SUCCESS_TIME",
        header: "rota-last-success-time",
    };
    const ACTUAL_TIME: Self = Self {
        template: "{{actual_time}}",
        variable: "ROTA_ACTUAL_TIME",
        header: "rota-actual-time",
    };
}
