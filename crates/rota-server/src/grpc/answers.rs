//! Answers to a worker that wait for room in the channel of its stream. The reader of the stream goes on meanwhile: what
//! the worker is slow to receive must not keep its heartbeats from being read.

use std::{collections::VecDeque, future::poll_fn, time::Duration};

use rota_proto::v1::{self, server_message::Message as Down};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::sync::PollSender;
use tonic::Status;

/// A message for the worker, or the error that ends its stream.
pub(super) type Answer = Result<v1::ServerMessage, Status>;

/// The worker is gone, or it has read nothing for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The answers that wait.
pub(super) struct Answers {
    /// Keeps its place among those who wait for room.
    sender: PollSender<Answer>,
    unsent: VecDeque<Answer>,
    /// One acknowledgement answers all heartbeats before it.
    owes_acknowledgement: bool,
    /// Maximum time for an answer to wait for room.
    patience: Duration,
    /// When the first one began to wait.
    since: Option<Instant>,
}

impl Answers {
    pub(super) fn new(sender: mpsc::Sender<Answer>, patience: Duration) -> Self {
        Self {
            sender: PollSender::new(sender),
            unsent: VecDeque::new(),
            owes_acknowledgement: false,
            patience,
            since: None,
        }
    }

    pub(super) fn push(&mut self, answer: Answer) {
        self.unsent.push_back(answer);
    }

    /// Adds an acknowledgement. An answer that waits is one, too: it shows that the worker is heard.
    pub(super) fn acknowledge(&mut self) {
        self.owes_acknowledgement = true;
    }

    /// The number of answers that wait, without the acknowledgement.
    pub(super) fn len(&self) -> usize {
        self.unsent.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsent.is_empty() && !self.owes_acknowledgement
    }

    /// Sends one as soon as there is room. Never resolves if none waits. Cancel safe: it keeps its place and its time.
    pub(super) async fn send_next(&mut self) -> Result<(), Gone> {
        if self.is_empty() {
            return std::future::pending().await;
        }
        let room = poll_fn(|cx| self.sender.poll_reserve(cx));
        let reserved = if self.unsent.is_empty() {
            // Whoever writes tasks into the channel notices a worker that reads nothing.
            room.await
        } else {
            let since = *self.since.get_or_insert_with(Instant::now);
            timeout_at(since + self.patience, room).await.map_err(|_| Gone)?
        };
        reserved.map_err(|_| Gone)?;
        self.owes_acknowledgement = false;
        self.since = None;
        let answer = self.unsent.pop_front().unwrap_or_else(|| Ok(acknowledgement()));
        self.sender.send_item(answer).map_err(|_| Gone)
    }

    /// Sends why the stream ends, instead of the answers that wait. Its worker asks for those again.
    pub(super) async fn end_with(&mut self, status: Status) -> Result<(), Gone> {
        self.unsent.clear();
        self.since = None;
        self.push(Err(status));
        self.flush().await
    }

    /// Sends all.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        while !self.is_empty() {
            self.send_next().await?;
        }
        Ok(())
    }
}

fn acknowledgement() -> v1::ServerMessage {
    v1::ServerMessage { message: Some(Down::HeartbeatAck(v1::HeartbeatAck {})) }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn results(seq: u64) -> Answer {
        let results = v1::ReportResults { seq, ..v1::ReportResults::default() };
        Ok(v1::ServerMessage { message: Some(Down::ReportResults(results)) })
    }

    /// What the worker gets: the number of a message of reports, or `None` for an acknowledgement.
    async fn got(receiver: &mut mpsc::Receiver<Answer>) -> Option<u64> {
        match receiver.recv().await.unwrap().unwrap().message.unwrap() {
            Down::ReportResults(results) => Some(results.seq),
            Down::HeartbeatAck(_) => None,
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// Polls once, as a loop with other events does.
    async fn poll(answers: &mut Answers) -> bool {
        timeout(Duration::ZERO, answers.send_next()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_that_finds_no_room_is_sent_when_there_is_some() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut answers = Answers::new(sender.clone(), PATIENCE);
        sender.try_send(results(1)).unwrap();
        answers.acknowledge();
        answers.acknowledge();
        assert!(!poll(&mut answers).await);
        assert_eq!(got(&mut receiver).await, Some(1));
        assert!(poll(&mut answers).await);
        assert_eq!(got(&mut receiver).await, None, "one for both heartbeats");
        assert!(answers.is_empty());
        assert!(!poll(&mut answers).await, "none waits");
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_do_not_hold_up_the_answers_to_reports() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut answers = Answers::new(sender.clone(), PATIENCE);
        for seq in 1..=3 {
            answers.push(results(seq));
            // There is room more rarely than heartbeats come.
            answers.acknowledge();
            answers.acknowledge();
            answers.send_next().await.unwrap();
            assert_eq!(got(&mut receiver).await, Some(seq), "which acknowledges them");
        }
        assert!(answers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_reason_of_the_end_is_not_held_up_by_answers() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut answers = Answers::new(sender, PATIENCE);
        for seq in 1..=3 {
            answers.push(results(seq));
        }
        answers.end_with(Status::not_found("ended")).await.unwrap();
        assert!(receiver.recv().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_keeps_the_place_while_other_events_are_handled() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut answers = Answers::new(sender.clone(), PATIENCE);
        sender.try_send(results(1)).unwrap();
        answers.push(results(2));
        assert!(!poll(&mut answers).await);
        // The writer of tasks comes later, and waits without a break.
        let writer = tokio::spawn(async move { sender.send(results(3)).await.is_ok() });
        tokio::task::yield_now().await;
        for _ in 0..5 {
            assert!(!poll(&mut answers).await);
        }
        assert_eq!(got(&mut receiver).await, Some(1));
        assert!(poll(&mut answers).await);
        assert_eq!(got(&mut receiver).await, Some(2));
        assert_eq!(got(&mut receiver).await, Some(3));
        assert!(writer.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_reads_no_answer_for_too_long_is_gone() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut answers = Answers::new(sender.clone(), PATIENCE);
        sender.try_send(results(1)).unwrap();
        answers.push(results(2));
        answers.push(results(3));
        for _ in 0..9 {
            let waited = timeout(Duration::from_secs(1), answers.send_next()).await;
            assert!(waited.is_err(), "it still waits");
        }
        assert_eq!(got(&mut receiver).await, Some(1));
        answers.send_next().await.unwrap();
        // The time of the next one begins now.
        let began = Instant::now();
        assert_eq!(answers.send_next().await, Err(Gone));
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_waits_for_as_long_as_tasks_do() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut answers = Answers::new(sender.clone(), PATIENCE);
        sender.try_send(results(1)).unwrap();
        answers.acknowledge();
        assert!(timeout(PATIENCE * 2, answers.send_next()).await.is_err());
        assert_eq!(got(&mut receiver).await, Some(1));
        answers.flush().await.unwrap();
        drop(receiver);
        answers.acknowledge();
        assert_eq!(answers.send_next().await, Err(Gone));
    }
}
