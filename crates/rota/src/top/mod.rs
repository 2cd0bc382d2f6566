//! `rota top`: a live view of a cluster, by the public API alone.
//!
//! Three parts: `sample` asks, `state` remembers and hears the keys, `view` draws. This file moves
//! between them: answers come from one task, keys from one thread, and each change is drawn.

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
use state::{Flow, Pane, State};
use view::Paint;

/// Between two questions to the server.
const EVERY: Duration = Duration::from_secs(1);
/// The keyboard is listened to for so long at a time, so that its thread ends with the rest.
const LISTEN: Duration = Duration::from_millis(200);

/// Shows the cluster until it is told to quit.
///
/// # Errors
/// When there is no terminal, or it cannot be drawn on.
pub(crate) async fn run(client: Client) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("rota top needs a terminal").hint(
            "for programs there are `rota cluster`, `rota queue list` and `rota workers list` with -o json",
        ));
    }
    let paint = Paint(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let mut term = signal(SignalKind::terminate())?;
    // Gives the terminal back if this panics, too.
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
                // Drawn anew at its new size, or with the next change.
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
                    let failures = state.pane == Pane::Errors;
                    // Ends with its answer; who quit meanwhile does not hear it.
                    tokio::spawn(async move {
                        let answer = Sample::take(&client, failures).await;
                        let _ = answered.send(answer).await;
                    });
                }
            }
        }
    }
}

/// Reads the keyboard, on a thread of its own that ends when this is dropped.
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
                // A terminal that cannot be read any more is one that was closed: the end.
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
