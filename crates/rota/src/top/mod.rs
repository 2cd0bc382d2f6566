//! `rota top`: a live view of a cluster. It uses only the public API.
//!
//! Three parts: `sample` calls the API, `state` keeps samples and handles keys, `view` draws. This file
//! connects them: a task brings samples, a thread brings keys, and each change is drawn.

mod sample;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};
use rota_client::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::MissedTickBehavior,
};

use crate::exit::Failure;
use sample::Sample;
use state::{Flow, State};
use view::Paint;

/// Interval between samples.
const EVERY: Duration = Duration::from_secs(1);
/// Time of one poll of the keyboard. It bounds how long its thread outlives the view.
const LISTEN: Duration = Duration::from_millis(200);

/// Shows the cluster until the user quits.
///
/// # Errors
/// When there is no terminal, or drawing fails.
pub(crate) async fn run(client: Client) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("rota top needs a terminal").hint(
            "in scripts, use `rota cluster`, `rota queue list` and `rota workers list` with -o json",
        ));
    }
    let paint = Paint(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let mut term = signal(SignalKind::terminate())?;
    // Restores the terminal after a panic, too.
    let mut terminal = ratatui::try_init()?;
    let shown = tokio::select! {
        biased;
        _ = term.recv() => Ok(()),
        shown = show(&mut terminal, client, paint) => shown,
    };
    ratatui::restore();
    shown
}

async fn show(terminal: &mut DefaultTerminal, client: Client, paint: Paint) -> Result<(), Failure> {
    let mut state = State::new(client.addresses().to_owned());
    let keyboard = Keyboard::start();
    let mut events = keyboard.events;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (answered, mut answers) = mpsc::channel(1);
    let mut asking = false;
    loop {
        terminal.draw(|frame| view::draw(frame, &state, paint, Instant::now()))?;
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(Event::Key(key)) => {
                    let before = state.pane;
                    if state.press(key) == Flow::Quit {
                        return Ok(());
                    }
                    if state.pane != before {
                        ticks.reset_immediately();
                    }
                }
                // The loop redraws at the new size.
                Some(_) => {}
                None => return Ok(()),
            },
            Some(answer) = answers.recv() => {
                asking = false;
                state.learn(answer);
            }
            _ = ticks.tick() => {
                if !asking && !state.paused {
                    asking = true;
                    let (client, answered) = (client.clone(), answered.clone());
                    let extra = state.pane.extra();
                    // Ends with its answer. After a quit, nobody receives it.
                    tokio::spawn(async move {
                        let answer = Sample::take(&client, extra).await;
                        let _ = answered.send(answer).await;
                    });
                }
            }
        }
    }
}

/// Reads the keyboard on its own thread, which ends when this is dropped.
struct Keyboard {
    events: mpsc::Receiver<Event>,
    _stop: StopOnDrop,
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Keyboard {
    fn start() -> Self {
        let (sender, events) = mpsc::channel(16);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // The terminal was closed.
                match event::poll(LISTEN) {
                    Ok(false) => continue,
                    Ok(true) => {}
                    Err(_) => return,
                }
                let Ok(event) = event::read() else { return };
                if sender.blocking_send(event).is_err() {
                    return;
                }
            }
        });
        Self { events, _stop: StopOnDrop(stop) }
    }
}
