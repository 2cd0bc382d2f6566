//! The log of a run: one line for each event, and a hash over all of them.
//!
//! Two runs of one seed must give the same bytes. The hash tells whether they did without keeping them.

use std::{collections::VecDeque, fmt, fmt::Write as _};

use xxhash_rust::xxh3::Xxh3;

/// Lines that are kept to be shown when a rule is broken.
const KEPT: usize = 400;

/// The log.
pub(crate) struct Log {
    hash: Xxh3,
    lines: u64,
    line: String,
    recent: VecDeque<String>,
    /// Everything, where asked for.
    all: Option<String>,
    keeps: bool,
}

impl Log {
    /// `whole`: keeps all lines. `recent`: keeps the last ones.
    pub(crate) fn new(whole: bool, recent: bool) -> Self {
        Self {
            hash: Xxh3::new(),
            lines: 0,
            line: String::new(),
            recent: VecDeque::new(),
            all: whole.then(String::new),
            keeps: recent,
        }
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, at_us: u64, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = writeln!(self.line, "{}.{:03} {what}", at_us / 1000, at_us % 1000);
        self.hash.update(self.line.as_bytes());
        self.lines += 1;
        if let Some(all) = &mut self.all {
            all.push_str(&self.line);
        }
        if self.keeps {
            if self.recent.len() == KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back(self.line.trim_end().to_owned());
        }
    }

    /// The hash over all lines so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.digest()
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn take_whole(&mut self) -> Option<String> {
        self.all.take()
    }

    pub(crate) fn recent(&self) -> Vec<String> {
        self.recent.iter().cloned().collect()
    }
}
