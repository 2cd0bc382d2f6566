//! Reports on their way to the server: each is kept until it was answered.

use std::collections::VecDeque;

use rota_proto::v1::{self, report::Outcome};

/// Messages of reports that may be unanswered at once. The server takes more.
const UNANSWERED_MAX: usize = 4;
/// Reports put into one message.
const REPORTS_A_MESSAGE: usize = 1000;
/// Bytes of results and output put into one message.
const BYTES_A_MESSAGE: usize = 4 << 20;

/// Reports that wait to be sent, and those that wait for their answer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<v1::Report>,
    unanswered: VecDeque<v1::Reports>,
    last_seq: u64,
}

fn size_of(report: &v1::Report) -> usize {
    let result = match &report.outcome {
        Some(Outcome::Completed(done)) => done.result.len(),
        _ => 0,
    };
    report.output_tail.len() + result
}

/// Whether the report ends its lease, so that it must not be lost.
fn is_end(report: &v1::Report) -> bool {
    !matches!(report.outcome, Some(Outcome::Started(_) | Outcome::Progress(_)) | None)
}

impl Outbox {
    pub(crate) fn push(&mut self, report: v1::Report) {
        self.waiting.push_back(report);
    }

    /// Whether everything was sent and answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.is_empty()
    }

    /// The next message, if there is something to send and not too much is unanswered.
    pub(crate) fn next(&mut self) -> Option<v1::Reports> {
        if self.waiting.is_empty() || self.unanswered.len() >= UNANSWERED_MAX {
            return None;
        }
        let mut bytes = 0;
        let mut reports = Vec::with_capacity(self.waiting.len().min(REPORTS_A_MESSAGE));
        while reports.len() < REPORTS_A_MESSAGE && bytes < BYTES_A_MESSAGE {
            let Some(report) = self.waiting.pop_front() else { break };
            bytes += size_of(&report);
            reports.push(report);
        }
        self.last_seq += 1;
        let message = v1::Reports { seq: self.last_seq, reports };
        self.unanswered.push_back(message.clone());
        Some(message)
    }

    /// The server answered: what it did not refuse is durable.
    pub(crate) fn answered(&mut self, seq: u64) {
        while self.unanswered.front().is_some_and(|message| message.seq <= seq) {
            self.unanswered.pop_front();
        }
    }

    /// The stream broke: what was not answered is sent again. What is soft is not worth it.
    pub(crate) fn rewind(&mut self) {
        while let Some(message) = self.unanswered.pop_back() {
            for report in message.reports.into_iter().rev().filter(is_end) {
                self.waiting.push_front(report);
            }
        }
    }

    /// The leases that reports in here end.
    pub(crate) fn leases(&self) -> impl Iterator<Item = v1::Lease> {
        let unanswered = self.unanswered.iter().flat_map(|message| &message.reports);
        unanswered.chain(&self.waiting).filter(|report| is_end(report)).map(|report| v1::Lease {
            task_id: report.task_id.clone(),
            lease_token: report.lease_token,
        })
    }

    /// The lease is over: its reports are not wanted.
    pub(crate) fn forget(&mut self, task_id: &str, token: u64) {
        self.waiting.retain(|report| report.lease_token != token || report.task_id != task_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(token: u64) -> v1::Report {
        v1::Report {
            task_id: "t".to_owned(),
            lease_token: token,
            outcome: Some(Outcome::Completed(v1::Completed::default())),
            ..v1::Report::default()
        }
    }

    #[test]
    fn what_was_not_answered_is_sent_again_in_order_and_what_is_soft_is_not() {
        let mut outbox = Outbox::default();
        outbox.push(done(1));
        outbox.push(v1::Report { outcome: Some(Outcome::Started(v1::Started {})), ..done(2) });
        let first = outbox.next().expect("two reports");
        outbox.push(done(3));
        let second = outbox.next().expect("one report");
        outbox.push(done(4));
        outbox.answered(first.seq - 1);
        outbox.rewind();
        let again = outbox.next().expect("three reports");
        let tokens: Vec<_> = again.reports.iter().map(|report| report.lease_token).collect();
        assert_eq!(tokens, [1, 3, 4]);
        assert!(again.seq > second.seq);
        outbox.answered(again.seq);
        assert!(outbox.is_empty());
    }
}
