//! The size of messages of reports: smaller after a broken connection, larger after an answer.

use crate::breaks::Break;

/// Maximum number of unanswered messages. The server accepts more.
pub(super) const MESSAGES_MAX: usize = 4;
/// Maximum number of reports in one message.
pub(super) const REPORTS_MAX: usize = 1000;
/// Maximum bytes of a message with more than one report.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// Overhead of a message in bytes.
const ENVELOPE_BYTES: usize = 64;
/// Number of consecutive network failures before the sent messages are suspected.
const UNSUSPICIOUS: u32 = 3;
/// Number of refusals of a single report before it is given up.
const TRIES_ALONE: u32 = 3;

/// The messages in flight when the connection broke: the largest one, and their number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) bytes: usize,
    pub(super) reports: usize,
    pub(super) messages: usize,
}

impl Sent {
    /// Whether it was a single report, so that no other can be at fault.
    pub(super) fn is_alone(self) -> bool {
        self.messages == 1 && self.reports == 1
    }
}

/// The reaction to a broken connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send the reports again.
    Again,
    /// Limit reports to `report_bytes_max`.
    Smaller,
    /// Give up the single report, which the server cannot accept.
    Guilty,
}

/// The current size of messages.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) messages: usize,
    pub(super) reports: usize,
    pub(super) bytes: usize,
    /// Maximum bytes of a report that the server accepts. Unknown at first.
    pub(super) report_bytes_max: usize,
    /// Number of connections that broke since the last answer.
    breaks: u32,
    /// Number of these with a single report in flight.
    alone: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            messages: MESSAGES_MAX,
            reports: REPORTS_MAX,
            bytes: BYTES_MAX,
            report_bytes_max: usize::MAX,
            breaks: 0,
            alone: 0,
        }
    }
}

impl Pace {
    /// Processes an answer.
    pub(super) fn answered(&mut self) {
        (self.breaks, self.alone) = (0, 0);
        self.messages = (self.messages + 1).min(MESSAGES_MAX);
        self.reports = (self.reports * 2).min(REPORTS_MAX);
    }

    /// Processes a broken connection with these messages in flight.
    pub(super) fn broken(&mut self, why: &Break, sent: Sent) -> Verdict {
        self.breaks += 1;
        match why {
            Break::Lost if self.breaks < UNSUSPICIOUS => Verdict::Again,
            Break::Lost | Break::Refused(_) => self.narrow(sent),
            Break::TooLarge(max) => {
                self.messages = 1;
                match max.map(|max| max.saturating_sub(ENVELOPE_BYTES)) {
                    Some(max) if max < sent.bytes => {
                        self.bytes = self.bytes.min(max);
                        self.report_bytes_max = max;
                        Verdict::Smaller
                    }
                    _ if sent.is_alone() => {
                        self.report_bytes_max = sent.bytes.saturating_sub(1);
                        Verdict::Smaller
                    }
                    _ => {
                        self.bytes = sent.bytes / 2;
                        Verdict::Again
                    }
                }
            }
        }
    }

    /// Halves the number of reports in a message, down to one.
    fn narrow(&mut self, sent: Sent) -> Verdict {
        self.messages = 1;
        self.reports = (sent.reports / 2).max(1);
        if !sent.is_alone() {
            return Verdict::Again;
        }
        self.alone += 1;
        if self.alone < TRIES_ALONE {
            return Verdict::Again;
        }
        self.alone = 0;
        Verdict::Guilty
    }
}
