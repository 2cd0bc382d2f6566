//! How much goes into one message of reports: less after a connection broke, more after an answer.

use crate::breaks::Break;

/// Messages of reports that may be unanswered at once. The server takes more.
pub(super) const MESSAGES_MAX: usize = 4;
/// Reports put into one message.
pub(super) const REPORTS_MAX: usize = 1000;
/// Bytes put into one message that has more than one report.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// Bytes of a message beyond its reports.
const ENVELOPE_BYTES: usize = 64;
/// A network may fail so often in a row before what was sent is suspected.
const UNSUSPICIOUS: u32 = 3;
/// A report that is alone in its message is refused so often before it is given up.
const TRIES_ALONE: u32 = 3;

/// What was on its way when the connection broke: of the largest message, and how many there were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) bytes: usize,
    pub(super) reports: usize,
    pub(super) messages: usize,
}

impl Sent {
    /// Whether it was one report, so that no other can be meant.
    pub(super) fn is_alone(self) -> bool {
        self.messages == 1 && self.reports == 1
    }
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it again.
    Again,
    /// No report may be larger than `report_bytes_max`.
    Smaller,
    /// The report that was alone is the one that cannot be taken.
    Guilty,
}

/// How much goes into a message.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) messages: usize,
    pub(super) reports: usize,
    pub(super) bytes: usize,
    /// The server takes no larger report; unknown at first.
    pub(super) report_bytes_max: usize,
    /// Connections that broke since the last answer.
    breaks: u32,
    /// Those with a report alone.
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
    /// A message was answered.
    pub(super) fn answered(&mut self) {
        (self.breaks, self.alone) = (0, 0);
        self.messages = (self.messages + 1).min(MESSAGES_MAX);
        self.reports = (self.reports * 2).min(REPORTS_MAX);
    }

    /// The connection broke with this on its way.
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

    /// Sends fewer reports at a time, down to one.
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
