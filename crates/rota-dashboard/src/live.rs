//! Tells open pages what changed: one stream of events from the API for all pages of a node, and for each browser a
//! stream that names the topics that changed, at most twice a second, and less often while many pages are open.
//!
//! The stream from the API is open only while a page listens, and not while there is so much news that it tells nothing
//! more. A page that hears of a topic that it shows asks for itself again, so nothing but the names of topics is in these
//! streams.

use std::{
    array::from_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use rota_proto::v1::{Event, WatchEventsRequest};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::debug;

use crate::{answer, api::Api};

/// Shortest time between two frames.
const BEAT: Duration = Duration::from_millis(500);
/// Each stream adds this to the time between its frames, so that all open pages together ask for themselves at most ten
/// times a second, however many they are.
const SHARE: Duration = Duration::from_millis(100);
/// Time after which pages look anew at what no event tells: ages, nodes, and the store.
const LOOK: Duration = Duration::from_secs(10);
/// Time without a frame after which a comment shows that the stream lives.
const QUIET: Duration = Duration::from_secs(15);
/// Number of events between two frames from which on more of them tell nothing new. Then nobody listens until pages may
/// ask again: the leader makes events of all that happens only while somebody listens.
const EVENTS: u32 = 256;
/// Pause before the stream from the API is opened again.
const PAUSE: Duration = Duration::from_secs(2);
/// Maximum number of streams. A browser has one for all its tabs.
const STREAMS: usize = 1000;

/// What pages show.
const TOPICS: [&str; 5] = ["tasks", "queues", "workers", "schedules", "cluster"];
const CLUSTER: usize = 4;

/// Why reading the stream from the API ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It has ended, or no page listens.
    Over,
    /// There is more news than pages can ask for.
    Busy,
}

/// How often each topic has changed.
type Changes = [u64; TOPICS.len()];

/// The streams of a node.
#[derive(Debug)]
pub(crate) struct Live {
    changes: watch::Sender<Changes>,
    /// Wakes [`run`](Self::run) when somebody listens.
    wanted: Notify,
    streams: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// Counts one stream.
struct Stream(Arc<AtomicUsize>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Live {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            changes: watch::Sender::new([0; TOPICS.len()]),
            wanted: Notify::new(),
            streams: Arc::default(),
            stop,
        }
    }

    /// Follows the events of the API while somebody listens. Ends with the stop of the server.
    pub(crate) async fn run(&self, api: Api) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wanted.notified() => {}
            }
            while self.changes.receiver_count() > 0 {
                let followed = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    followed = self.follow(&api) => followed,
                };
                if let Err(status) = &followed {
                    debug!(%status, "the events of the dashboard broke");
                }
                let is_busy = followed.is_ok_and(|why| why == Ended::Busy);
                if !is_busy {
                    // What changed meanwhile was not heard.
                    self.tell([true; TOPICS.len()]);
                }
                let pause = if is_busy { self.pace() } else { PAUSE };
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        }
    }

    /// Follows one stream of events until it breaks, nobody listens, or it is too much.
    async fn follow(&self, api: &Api) -> Result<Ended, Status> {
        let all = WatchEventsRequest { brief: true, ..WatchEventsRequest::default() };
        let mut events: Streaming<Event> = api.events().watch_events(all).await?.into_inner();
        let (mut dirty, mut read) = ([false; TOPICS.len()], 0);
        let (mut beat, mut look) = (interval(BEAT), interval(LOOK));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = beat.tick() => {
                    if self.changes.receiver_count() == 0 {
                        return Ok(Ended::Over);
                    }
                    self.tell(std::mem::take(&mut dirty));
                    read = 0;
                }
                _ = look.tick() => {
                    dirty[topic("queues")] = true;
                    dirty[topic("workers")] = true;
                    dirty[CLUSTER] = true;
                }
                event = events.message() => match event? {
                    Some(event) => {
                        mark(&mut dirty, &event);
                        read += 1;
                        let is_busy = read == EVENTS;
                        // The first message of a stream says that all may have changed.
                        if is_busy || dirty == [true; TOPICS.len()] {
                            self.tell(std::mem::take(&mut dirty));
                        }
                        if is_busy {
                            return Ok(Ended::Busy);
                        }
                    }
                    None => return Ok(Ended::Over),
                },
            }
        }
    }

    fn tell(&self, dirty: [bool; TOPICS.len()]) {
        self.changes.send_if_modified(|changes| {
            for (count, dirty) in changes.iter_mut().zip(dirty) {
                *count += u64::from(dirty);
            }
            dirty.contains(&true)
        });
    }

    /// Shortest time between two requests of an open page.
    pub(crate) fn pace(&self) -> Duration {
        pause(self.streams.load(Ordering::Relaxed))
    }

    /// A stream for a browser.
    pub(crate) fn answer(&self) -> Response<Body> {
        if self.streams.fetch_add(1, Ordering::Relaxed) >= STREAMS {
            self.streams.fetch_sub(1, Ordering::Relaxed);
            return answer::plain(StatusCode::SERVICE_UNAVAILABLE, "too many live pages\n");
        }
        let changes = self.changes.subscribe();
        self.wanted.notify_one();
        let seen = *changes.borrow();
        let start = Listener {
            changes,
            seen,
            stop: self.stop.clone(),
            is_first: true,
            rested: None,
            stream: Stream(self.streams.clone()),
        };
        let frames = stream::unfold(start, |mut listener| async move {
            let frame = listener.next().await?;
            Some((Ok::<_, std::convert::Infallible>(frame), listener))
        });
        answer::stream(Body::from_stream(frames))
    }
}

/// What one browser has heard.
struct Listener {
    changes: watch::Receiver<Changes>,
    seen: Changes,
    stop: CancellationToken,
    is_first: bool,
    /// The earliest time of the next frame.
    rested: Option<Instant>,
    stream: Stream,
}

impl Listener {
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_first) {
            return Some(Bytes::from_static(b"retry: 2000\n: hello\n\n"));
        }
        if let Some(rested) = self.rested {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = sleep_until(rested) => {}
            }
        }
        let changed = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            changed = timeout(QUIET, self.changes.changed()) => changed,
        };
        match changed {
            Ok(Ok(())) => {
                self.rested = Some(Instant::now() + pause(self.stream.0.load(Ordering::Relaxed)));
                let now = *self.changes.borrow_and_update();
                let seen = std::mem::replace(&mut self.seen, now);
                Some(frame(&seen, &now).into())
            }
            Ok(Err(_)) => None,
            Err(_) => Some(Bytes::from_static(b": quiet\n\n")),
        }
    }
}

/// Shortest time between two frames of a stream, one of this many.
fn pause(streams: usize) -> Duration {
    BEAT.max(SHARE * u32::try_from(streams.min(STREAMS)).unwrap_or(u32::MAX))
}

/// The topics that changed between two counts.
fn frame(seen: &Changes, now: &Changes) -> String {
    let changed = from_fn::<_, { TOPICS.len() }, _>(|at| seen[at] != now[at]);
    let names = TOPICS.iter().zip(changed).filter(|(_, changed)| *changed);
    let names: Vec<_> = names.map(|(name, _)| *name).collect();
    format!("data: {}\n\n", names.join(" "))
}

fn topic(name: &str) -> usize {
    TOPICS.iter().position(|topic| *topic == name).unwrap_or(CLUSTER)
}

/// Notes what an event is about. A message about the stream itself may mean that others were missed.
fn mark(dirty: &mut [bool; TOPICS.len()], event: &Event) {
    match event.r#type.split('.').next().unwrap_or_default() {
        "task" => dirty[topic("tasks")] = true,
        "queue" => dirty[topic("queues")] = true,
        "worker" => dirty[topic("workers")] = true,
        "schedule" => dirty[topic("schedules")] = true,
        "ready" | "reset" | "end" => *dirty = [true; TOPICS.len()],
        // `heartbeat`, and types of a newer version.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;
    use crate::fake::Fake;

    #[test]
    fn a_frame_names_what_changed_and_nothing_else() {
        let live = Live::new(CancellationToken::new());
        let mut listener = live.changes.subscribe();
        let seen = *listener.borrow();
        let mut dirty = [false; TOPICS.len()];
        for name in ["task.created", "worker.lost", "task.completed", "heartbeat", "newer.thing"] {
            mark(&mut dirty, &Event { r#type: name.to_owned(), ..Event::default() });
        }
        live.tell(dirty);
        assert!(listener.has_changed().expect("open"));
        assert_eq!(frame(&seen, &listener.borrow_and_update()), "data: tasks workers\n\n");
        live.tell([false; TOPICS.len()]);
        assert!(!listener.has_changed().expect("open"), "nothing changed");
        mark(&mut dirty, &Event { r#type: "reset".to_owned(), ..Event::default() });
        assert_eq!(dirty, [true; TOPICS.len()]);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_many_pages_are_rarer() {
        for (pages, expected) in [(1, 500), (5, 500), (20, 2000)] {
            let live = Live::new(CancellationToken::new());
            let _others: Vec<_> = (1..pages).map(|_| live.answer()).collect();
            let mut frames = live.answer().into_body().into_data_stream();
            let change = || live.tell(from_fn(|topic| topic == CLUSTER));
            assert!(frames.next().await.is_some(), "the beginning");
            change();
            assert_eq!(frames.next().await.expect("open").expect("a frame"), "data: cluster\n\n");
            let began = Instant::now();
            change();
            assert_eq!(frames.next().await.expect("open").expect("a frame"), "data: cluster\n\n");
            assert_eq!(began.elapsed().as_millis(), expected, "{pages} pages");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_listens_while_more_happens_than_pages_can_ask_for() {
        for (events, per_ten_seconds) in [(EVENTS as usize + 1, 20), (10, 5)] {
            let event = Event { r#type: "task.created".to_owned(), ..Event::default() };
            let fake = Fake::default().streaming("WatchEvents", events, &event);
            let live = Live::new(CancellationToken::new());
            let _page = live.answer();
            let running = live.run(fake.visit("", "").api);
            assert!(timeout(Duration::from_millis(9_900), running).await.is_err(), "it goes on");
            let asked = fake.calls::<WatchEventsRequest>("WatchEvents");
            assert_eq!(asked.len(), per_ten_seconds, "{events} events");
            assert!(asked.iter().all(|request| request.brief));
        }
    }

    #[test]
    fn streams_are_bounded() {
        let live = Live::new(CancellationToken::new());
        let mut open: Vec<_> = (0..STREAMS).map(|_| live.answer()).collect();
        assert!(open.iter().all(|answer| answer.status() == 200));
        assert_eq!(live.answer().status(), 503);
        open.pop();
        assert_eq!(live.answer().status(), 200);
    }
}
