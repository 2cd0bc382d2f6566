//! What is drawn of real answers. The fixtures are what a cluster over etcd said in the midst of a
//! load (`rota cluster`, `queue list`, `workers list`, `task list --status failed`, all with
//! `-o json`).

use std::time::{Duration, Instant};

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent},
};
use rota_client::v1::{
    Cluster, FailureReason, ListQueuesResponse, ListWorkersResponse, Schedule, SchedulePause,
    ScheduleState, Task, TaskError, TaskStatus,
};

use rota_proto::json::Words;

use super::{
    sample::{Missing, Rates, Sample},
    state::{Flow, Pane, State},
    view::{Paint, draw},
};

/// Failed tasks. Tasks are not read back from JSON.
fn failures() -> Vec<Task> {
    let all: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/failures.json")).unwrap();
    let task = |shown: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let reason =
            FailureReason::of_word::<serde::de::value::Error>(&text(&shown["error"]["reason"]));
        let error =
            TaskError { reason: reason.unwrap().into(), message: text(&shown["error"]["message"]) };
        Task {
            id: text(&shown["id"]),
            queue: text(&shown["queue"]),
            status: TaskStatus::Failed.into(),
            attempt: shown["attempt"].as_u64().unwrap().try_into().unwrap(),
            finished_at: Some(text(&shown["finished_at"]).parse().unwrap()),
            error: Some(error),
            ..Task::default()
        }
    };
    all["tasks"].as_array().unwrap().iter().map(task).collect()
}

fn schedules() -> Vec<Schedule> {
    let at = |text: &str| Some(text.parse().unwrap());
    let schedule = |name: &str, state: ScheduleState| Schedule {
        name: name.to_owned(),
        state: state.into(),
        ..Schedule::default()
    };
    vec![
        Schedule {
            next_time: at("2026-11-28T01:30:00Z"),
            last_fired_time: at("2026-11-27T01:30:00Z"),
            last_success_time: at("2026-11-25T01:30:00Z"),
            failures_in_a_row: 2,
            ..schedule("backup", ScheduleState::Active)
        },
        Schedule {
            last_fired_time: at("2026-11-27T10:00:00Z"),
            failures_in_a_row: 5,
            pause: Some(SchedulePause { on_failure: true, ..SchedulePause::default() }),
            ..schedule("import", ScheduleState::Paused)
        },
        schedule("once", ScheduleState::Completed),
        Schedule {
            next_time: at("2026-11-27T11:00:00Z"),
            ..schedule("reports/hourly", ScheduleState::Active)
        },
    ]
}

fn sample(at: Instant) -> Sample {
    fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
        serde_json::from_str(text).unwrap()
    }
    let workers: ListWorkersResponse = read(include_str!("fixtures/workers.json"));
    let queues: ListQueuesResponse = read(include_str!("fixtures/queues.json"));
    Sample {
        at,
        cluster: read(include_str!("fixtures/cluster.json")),
        queues: queues.queues,
        workers: workers.workers,
        failures: Some(failures()),
        schedules: Some(schedules()),
        has_more_schedules: false,
    }
}

/// A second later, with so many more tasks at their end in each queue.
fn later(sample: &Sample, completed: u64, failed: u64) -> Sample {
    let mut later = sample.clone();
    later.at += Duration::from_secs(1);
    for queue in &mut later.queues {
        queue.completed_total += completed;
        queue.failed_total += failed;
    }
    later
}

fn busy(now: Instant) -> State {
    let mut state = State::new("http://127.0.0.1:7420".to_owned());
    let mut sample = sample(now);
    state.learn(Ok(sample.clone()));
    for second in 0..60 {
        sample = later(&sample, second * 20, second % 3);
        state.learn(Ok(sample.clone()));
    }
    state
}

fn screen(state: &State, width: u16, height: u16, now: Instant) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, Paint(true), now)).unwrap();
    terminal.backend().clone()
}

fn press(state: &mut State, codes: &[KeyCode]) {
    for code in codes {
        assert_eq!(state.press(KeyEvent::from(*code)), Flow::GoOn);
    }
}

#[test]
fn every_pane_fits_a_small_terminal() {
    let now = Instant::now();
    let mut state = busy(now);
    let mut shown = Vec::new();
    for _ in Pane::ALL {
        shown.push(screen(&state, 80, 24, now).to_string());
        press(&mut state, &[KeyCode::Tab]);
    }
    insta::assert_snapshot!(shown.join("\n"));
}

fn missing(reason: &str, cluster: Option<Cluster>) -> Result<Sample, Missing> {
    Err(Missing { reason: reason.to_owned(), cluster: cluster.map(Box::new) })
}

#[test]
fn a_node_that_answers_is_believed_on_the_cluster_when_nobody_knows_the_tasks() {
    let now = Instant::now();
    let mut state = busy(now);
    let mut cluster = state.sample.clone().unwrap().cluster;
    cluster.leader = None;
    state.learn(missing("no answer within 3 s", Some(cluster)));
    let text = screen(&state, 80, 24, now).to_string();
    let first = text.lines().next().unwrap();
    assert!(first.contains("OUT OF DATE") && first.contains("no leader"), "{first}");
    assert!(text.contains("PENDING"), "what was known stays");
}

#[test]
fn a_lost_connection_is_said_and_what_was_known_stays() {
    let now = Instant::now();
    let mut state = busy(now);
    state.learn(missing("cannot reach http://127.0.0.1:7420:\u{1b}[2J refused", None));
    let first = state.trouble.clone();
    state.learn(missing("another reason", None));
    assert_eq!(state.trouble.as_ref().map(|(since, _)| *since), first.map(|(since, _)| since));
    let text = screen(&state, 80, 24, Instant::now() + Duration::from_secs(5)).to_string();
    let last = text.lines().last().unwrap();
    assert!(last.contains("NOT CONNECTED for"), "{last}");
    assert!(last.contains("another reason"), "{last}");
    assert!(text.contains("PENDING"), "what was known stays");
    let known = state.sample.clone().unwrap();
    state.learn(Ok(later(&known, 1, 0)));
    assert!(state.trouble.is_none());
}

#[test]
fn before_the_first_answer_it_says_so_and_tiny_terminals_do_no_harm() {
    let now = Instant::now();
    let state = State::new("http://n1:7420".to_owned());
    insta::assert_snapshot!(screen(&state, 60, 10, now));
    for (width, height) in [(1, 1), (10, 3), (80, 5), (400, 100)] {
        screen(&busy(now), width, height, now);
    }
}

#[test]
fn rates_are_differences_and_begin_anew_with_another_leader() {
    let now = Instant::now();
    let before = sample(now);
    let mut after = later(&before, 30, 3);
    after.at = now + Duration::from_secs(2);
    let queues = u32::try_from(before.queues.len()).unwrap();
    let total = Rates::between(&before, &after).unwrap().total();
    assert_eq!((total.completed, total.failed), (f64::from(15 * queues), 1.5 * f64::from(queues)));
    after.cluster.epoch += 1;
    assert_eq!(Rates::between(&before, &after), None);
}

#[test]
fn keys_sort_scroll_pause_and_quit() {
    let now = Instant::now();
    let mut state = busy(now);
    press(&mut state, &[KeyCode::Char('s')]);
    assert_eq!(state.order(), "pending");
    let pending: Vec<_> = state.queues().iter().map(|queue| queue.pending).collect();
    assert!(pending.is_sorted_by(|a, b| a >= b) && pending.len() > 1, "{pending:?}");
    press(&mut state, &[KeyCode::Down; 100]);
    assert_eq!(state.scroll, pending.len() - 1);
    press(&mut state, &[KeyCode::Char('p'), KeyCode::Up]);
    assert!(state.paused);
    press(&mut state, &[KeyCode::BackTab]);
    assert_eq!((state.order(), state.scroll), ("name", 0));
    assert_eq!(state.press(KeyEvent::from(KeyCode::Char('q'))), Flow::Quit);
    let interrupt =
        KeyEvent::new(KeyCode::Char('c'), ratatui::crossterm::event::KeyModifiers::CONTROL);
    assert_eq!(state.press(interrupt), Flow::Quit);
}

#[test]
fn schedules_are_sorted_by_their_next_run_or_their_failures() {
    let mut state = busy(Instant::now());
    press(&mut state, &[KeyCode::Tab, KeyCode::Tab, KeyCode::Char('s')]);
    let names =
        |state: &State| state.schedules().iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&state), ["reports/hourly", "backup", "import", "once"]);
    press(&mut state, &[KeyCode::Char('s')]);
    assert_eq!(names(&state)[..2], ["import", "backup"]);
    let mut sample = state.sample.clone().unwrap();
    sample.has_more_schedules = true;
    state.learn(Ok(sample));
    let text = screen(&state, 80, 24, Instant::now()).to_string();
    assert!(text.contains("more exist"), "{text}");
}

#[test]
fn no_text_of_others_reaches_the_terminal_as_it_is() {
    let harm = "\u{1b}[2J\u{202e}";
    let now = Instant::now();
    let mut sample = sample(now);
    let poison = |text: &mut String| text.insert_str(0, harm);
    sample.cluster.leader.iter_mut().for_each(poison);
    poison(&mut sample.cluster.store.get_or_insert_default().backend);
    for node in &mut sample.cluster.nodes {
        poison(&mut node.name);
        node.problem = Some(harm.to_owned());
    }
    for queue in &mut sample.queues {
        poison(&mut queue.name);
    }
    for worker in &mut sample.workers {
        poison(&mut worker.name);
        worker.queues.push(harm.to_owned());
        worker.kinds.push(harm.to_owned());
    }
    for schedule in sample.schedules.iter_mut().flatten() {
        poison(&mut schedule.name);
    }
    for task in sample.failures.iter_mut().flatten() {
        poison(&mut task.id);
        poison(&mut task.queue);
        if let Some(error) = &mut task.error {
            poison(&mut error.message);
        }
    }
    let mut troubled = sample.clone();
    troubled.cluster.store.get_or_insert_default().problem = Some(harm.to_owned());
    let mut state = State::new(harm.to_owned());
    let clean = |state: &State| {
        let shown = screen(state, 240, 24, now).to_string();
        let is_harm = |c: char| c != '\n' && crate::text::is_harmful(c);
        assert!(!shown.chars().any(is_harm), "{shown:?}");
        shown
    };
    clean(&state);
    for sample in [sample, troubled] {
        state.learn(Ok(sample));
        for _ in Pane::ALL {
            assert!(clean(&state).contains(r"\u{202e}"));
            press(&mut state, &[KeyCode::Tab]);
        }
    }
    state.learn(Err(Missing { reason: harm.to_owned(), cluster: None }));
    clean(&state);
}
