//! Takes requests from the inbox, and applies them to the open step.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rota_core::{
    AttemptOutcome, Command, Failure, FailureReason, Now, Priority, Refusal, Reply, Report, RunAt,
    Submit, TaskCommand, TaskId, TaskSpec,
};
use rota_store::{Leadership, StoreError};
use tokio::time::{Instant, timeout};

use crate::{
    api::{EngineError, NewTask, Submitted},
    batch,
    coordinator::{Coordinator, Created},
    down::size_of,
    inbox::{Budget, Sent},
    log,
    planted::Planted,
    prefetch::{self, PREFETCH_WAIT, Prefetched},
    request::{self, Answer, CommandResult, Request, Submission, SubmitResults},
};

/// Number of commands in a step at which it takes no more requests.
const STEP_COMMANDS_MAX: usize = 20_000;
/// Bytes of payloads and results in a step at which it takes no more requests.
const STEP_BYTES_MAX: usize = 8 << 20;
/// Number of requests, and of commands in them, to take at a time. In between, the loop handles other events.
const TAKEN_MAX: usize = 256;
const TAKEN_COMMANDS_MAX: usize = 2_000;
/// Time for applying requests in one go. The rest follows in the next.
const APPLIED_FOR: Duration = Duration::from_millis(20);

impl Coordinator<'_> {
    /// The budget for the next requests.
    pub(crate) fn budget(&self) -> Budget {
        if Planted::StepsWithoutBound.is_made() {
            return Budget { requests: usize::MAX, commands: usize::MAX, bytes: usize::MAX };
        }
        let commands = STEP_COMMANDS_MAX.saturating_sub(self.step.commands);
        Budget {
            requests: TAKEN_MAX,
            commands: commands.min(TAKEN_COMMANDS_MAX),
            bytes: STEP_BYTES_MAX.saturating_sub(self.step.bytes),
        }
    }

    /// Applies requests to the open step, in order, as long as the time allows.
    pub(crate) async fn take(&mut self, taken: &mut VecDeque<Sent>, leadership: &dyn Leadership) {
        self.begin();
        let keys = prefetch::keys(&self.machine, taken.iter().map(|sent| &sent.request));
        let prefetched = tokio::select! {
            biased;
            prefetched = timeout(PREFETCH_WAIT, prefetch::read(self.store.as_ref(), keys)) => {
                prefetched.unwrap_or(Err(StoreError::Timeout(PREFETCH_WAIT)))
            }
            () = leadership.lost() => {
                taken.drain(..).for_each(|sent| sent.request.refuse());
                return;
            }
        };
        let now = self.begin();
        let began = Instant::now();
        self.step.since.get_or_insert(began);
        self.step.hurried |= self.shared.someone_waits();
        while let Some(Sent { request, by_worker }) = taken.pop_front() {
            self.step.hurried |= !request.can_wait();
            if let Some(request) = self.apply(request, &prefetched, now) {
                taken.push_front(Sent { request, by_worker });
                return;
            }
            if let Some(sent_at) = by_worker {
                // Requests come in order, so everything sent before this one has been applied.
                self.heard = self.heard.max(sent_at);
            }
            if began.elapsed() > APPLIED_FOR {
                return;
            }
        }
    }

    /// Applies a request. Gives it back if more must be read before.
    fn apply(
        &mut self,
        request: Request,
        prefetched: &Result<Prefetched, StoreError>,
        now: Now,
    ) -> Option<Request> {
        match request {
            Request::Submit { tasks, answer } => self.submit(tasks, answer, prefetched, now),
            Request::Commands { commands, answer } => {
                self.commands(commands, answer, prefetched, now);
            }
            // The worker has already gone to another node. It would get tasks over a connection that is closed.
            Request::OpenSession { answer, .. } if answer.is_abandoned() => {
                self.step.commands += 1;
            }
            Request::OpenSession { open, events, answer } => {
                let session = open.session;
                self.step.commands += 1 + open.held.as_ref().map_or(0, Vec::len);
                let result = self.machine.apply(Command::OpenSession(open.clone()));
                if result.is_ok() {
                    log::session_opened(session, &open, self.fence.epoch.0);
                    self.shared.metrics.session_opened();
                    // Messages of earlier steps belong to the former connection.
                    self.step.opened.push_back(events);
                }
                self.answer_later(answer, Ok(result));
            }
            Request::Trigger { schedule, answer } => {
                let Some(result) = self.trigger(&schedule, prefetched) else {
                    return Some(Request::Trigger { schedule, answer });
                };
                self.answer_later(answer, result);
            }
            Request::Purge { expiring, entry, answer } => {
                let result = self.purge(expiring, entry, prefetched);
                self.answer_later(answer, result);
            }
            Request::RaiseLevel { level, alone } => {
                // The request may have waited while another leader raised the level further.
                if level > self.shared.cluster_level.load(Ordering::Relaxed) {
                    self.level = Some(level);
                    self.step.level_alone |= alone;
                }
            }
            Request::Prepare { successor, answer } => {
                self.step.successor = Some(successor);
                self.answer_later(answer, Ok(()));
            }
            Request::Resign { successor, answer } => {
                self.resigning = Some(successor);
                self.answer_later(answer, Ok(()));
            }
            Request::Query(question) => {
                // Its contents are kept until the batch before it is durable, so its size is limited, too.
                self.step.commands += 1;
                let release = question(&self.machine);
                if Planted::AnswersQuestionsEarly.is_made() {
                    release();
                    return None;
                }
                self.step.releases.push(release);
            }
        }
        None
    }

    /// Applies the heartbeats and credit received meanwhile.
    pub(crate) fn hear(&mut self) {
        for command in self.shared.signs.take() {
            let asks = matches!(command, Command::SetCredit { .. });
            // A worker whose session has ended is told so when that is durable.
            if self.machine.apply(command).is_ok() && asks {
                self.step.since.get_or_insert_with(Instant::now);
            }
        }
    }

    fn answer_later<T: Send + 'static>(
        &mut self,
        answer: Answer<T>,
        result: Result<T, EngineError>,
    ) {
        // The caller may no longer wait for the answer.
        self.step.releases.push(Box::new(move || {
            let _ = answer.send(result);
        }));
    }

    fn submit(
        &mut self,
        tasks: Vec<Submission>,
        answer: Answer<SubmitResults>,
        prefetched: &Result<Prefetched, StoreError>,
        now: Now,
    ) {
        let known = match prefetched {
            Ok(prefetched) => Some(prefetched),
            Err(_) if tasks.iter().all(|submission| submission.task.client_keys.is_empty()) => None,
            Err(error) => {
                self.answer_later(answer, Err(error.clone().into()));
                return;
            }
        };
        let mut results = Vec::with_capacity(tasks.len());
        let mut newest = None;
        for submission in tasks {
            let result = self.submit_one(submission, known, now);
            results.push(result.map(|(submitted, spec)| {
                newest = Some(spec);
                submitted
            }));
        }
        match (results.as_slice(), newest) {
            ([Ok(Submitted { created: true, .. })], Some(spec)) => {
                self.step.created.push(Created { spec, results, answer });
            }
            _ => self.answer_later(answer, Ok(results)),
        }
    }

    fn submit_one(
        &mut self,
        submission: Submission,
        prefetched: Option<&Prefetched>,
        now: Now,
    ) -> Result<(Submitted, Arc<TaskSpec>), Refusal> {
        let key_owners = match prefetched {
            Some(prefetched) => prefetched.key_owners(&submission)?,
            None => rota_core::KeyOwners::default(),
        };
        if let Some(id) = &submission.task.client_keys.id
            && !Planted::KeepsFreeIds.is_made()
        {
            self.coming_ticks.take(id);
        }
        let id = self.ids.next(now.wall);
        let NewTask { priority, run_at, .. } = submission.task;
        let priority = spoiled_priority(priority);
        let spec = Arc::new(spoiled(spec_of(submission, id, now)));
        let run_at = run_at.resolve(now.wall);
        self.step.commands += 1;
        self.step.bytes += spec.definition.payload.len();
        let submit = Submit { spec: spec.clone(), priority, run_at, key_owners };
        // A repeat writes nothing.
        let checked = batch::check_size("a task", size_of(&spec), self.store.limits());
        if checked.is_err() && !self.machine.is_repeat(&submit) {
            checked?;
        }
        let reply = self.machine.apply(Command::Submit(Box::new(submit)))?;
        Ok(match reply {
            Reply::Submitted { task, created } => {
                // A repeat by key can be of a task without a client id.
                let named = spec.client_keys.id.as_ref().map(ToString::to_string);
                let shown_id = named.unwrap_or_else(|| task.to_string());
                (Submitted { task, shown_id, created, view: None }, spec)
            }
            other => unreachable!("a submission was answered with {other:?}"),
        })
    }

    fn commands(
        &mut self,
        commands: Vec<Command>,
        answer: Answer<Vec<CommandResult>>,
        prefetched: &Result<Prefetched, StoreError>,
        now: Now,
    ) {
        let known = match prefetched {
            Ok(prefetched) => Some(prefetched),
            // Either all commands are carried out, or none.
            Err(error) if commands.iter().any(|command| self.needs_prefetch(command)) => {
                self.answer_later(answer, Err(error.clone().into()));
                return;
            }
            Err(_) => None,
        };
        let elsewhere = |command| known.is_some_and(|known| self.is_live_elsewhere(command, known));
        if commands.iter().any(elsewhere) {
            self.answer_later(answer, Err(EngineError::LeadershipLost));
            return;
        }
        let mut results = Vec::with_capacity(commands.len());
        self.step.commands += commands.len();
        let early = commands.iter().any(is_answered_early);
        for mut command in commands {
            if spoil_report(&mut command, now) {
                results.push(Ok(Reply::Done));
                continue;
            }
            if let Command::Task { command: TaskCommand::Edit(edit), .. } = &mut command
                && Planted::EditsIgnoreVersions.is_made()
            {
                edit.edits = self.machine.task(edit.spec.id).map_or(edit.edits, |task| task.edits);
            }
            if let Err(refusal) = self.check_level(&command) {
                results.push(Err(refusal));
                continue;
            }
            let bytes = request::bytes_of(&command);
            let set_aside = match &command {
                Command::Report { task, report: Report::SetAside, .. } => Some(*task),
                _ => None,
            };
            let what = match &command {
                Command::Task { .. } => "a task",
                Command::PutSchedule(_) => "a schedule",
                Command::PutCalendar { .. } => "a calendar",
                _ => "a result with its output",
            };
            let checked = batch::check_size(what, bytes, self.store.limits());
            let result = match checked.and_then(|()| self.fill(&mut command, known)) {
                Ok(()) => self.machine.apply(command),
                Err(refusal) => Err(refusal),
            };
            if set_aside.is_some_and(|task| result.is_ok() && self.machine.is_set_aside(task)) {
                self.shared.unreadable.fetch_add(1, Ordering::Relaxed);
            }
            match &result {
                Ok(_) => self.step.bytes += bytes,
                Err(Refusal::StaleLease { .. }) => self.shared.metrics.stale_report(),
                Err(_) => {}
            }
            results.push(result);
        }
        if early {
            // The caller may no longer wait for the answer.
            let _ = answer.send(Ok(results));
            return;
        }
        self.answer_later(answer, Ok(results));
    }

    fn needs_prefetch(&self, command: &Command) -> bool {
        self.machine.wants_stored(command).is_some()
            || matches!(command, Command::Task { command: TaskCommand::Retry { spec: None }, .. })
    }

    /// Whether a task that is not live here is live in the store. Then another node leads, and this one has yet to notice:
    /// to say that there is no such task would be wrong.
    fn is_live_elsewhere(&self, command: &Command, prefetched: &Prefetched) -> bool {
        let wanted = self.machine.wants_stored(command);
        wanted.is_some_and(|task| prefetched.is_live(task) && !self.machine.is_set_aside(task))
    }

    /// Adds the stored records to a command. A damaged record fails only this command.
    fn fill(&self, command: &mut Command, prefetched: Option<&Prefetched>) -> Result<(), Refusal> {
        if !self.needs_prefetch(command) {
            return Ok(());
        }
        // The caller read the records before. The machine knows the tasks that have ended since.
        let Some(prefetched) = prefetched else { return Ok(()) };
        let wanted = self.machine.wants_stored(command);
        if let Command::Task { task, command: TaskCommand::Retry { spec: spec @ None }, .. } =
            command
        {
            *spec = prefetched.spec(*task)?;
        }
        if let Some(task) = wanted {
            match command {
                Command::Task { stored, .. } | Command::Report { stored, .. } => {
                    *stored = prefetched.stored(task)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn spec_of(submission: Submission, id: TaskId, now: Now) -> TaskSpec {
    let Submission { task, fingerprint } = submission;
    TaskSpec {
        client_keys: task.client_keys,
        fingerprint: fingerprint.kept,
        ..TaskSpec::new(id, task.definition, now.wall)
    }
}

/// Planted faults: commands whose answer does not wait for their step.
fn is_answered_early(command: &Command) -> bool {
    match command {
        Command::PauseQueue { .. } => Planted::AnswersPausesEarly.is_made(),
        Command::Task { command: TaskCommand::Cancel, .. } => {
            Planted::AnswersCancelsEarly.is_made()
        }
        Command::Task { command: TaskCommand::Edit(_), .. } => Planted::AnswersEditsEarly.is_made(),
        _ => false,
    }
}

/// Planted faults: changes a report. Returns true if the report must be omitted.
fn spoil_report(command: &mut Command, now: Now) -> bool {
    let Command::Report { report: Report::Ended { outcome, .. }, .. } = command else {
        return false;
    };
    spoil_snooze(outcome, now);
    if let AttemptOutcome::Failed { retry_at, .. } = outcome
        && Planted::IgnoresBackoff.is_made()
    {
        *retry_at = Some(now.wall);
    }
    Planted::LosesReports.is_made_once_in(50)
}

/// Planted mistakes: changes a snooze.
fn spoil_snooze(outcome: &mut AttemptOutcome, now: Now) {
    let AttemptOutcome::Snoozed { until } = outcome else { return };
    if Planted::SnoozesEndEarly.is_made() {
        *until = RunAt::Now;
    }
    if Planted::SnoozesSpend.is_made() {
        let failure = Failure::new(FailureReason::Error, "snoozed");
        *outcome = AttemptOutcome::Failed { failure, retry_at: Some(until.resolve(now.wall)) };
    }
}

/// Planted faults: changes a request.
fn spoiled(mut spec: TaskSpec) -> TaskSpec {
    if Planted::RetriesOnceMore.is_made() {
        spec.definition.policy.retry.max_attempts += 1;
    }
    if Planted::RunsExpired.is_made() {
        spec.definition.expires_at = None;
    }
    spec
}

fn spoiled_priority(priority: Priority) -> Priority {
    if Planted::InvertsPriorities.is_made() {
        let lowest_first = Priority::MAX.level() - priority.level();
        return Priority::new(lowest_first.into()).unwrap_or(priority);
    }
    priority
}
