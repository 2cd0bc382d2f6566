//! The log of a run, and a hash over everything that happened.
//!
//! Two runs of one seed must give the same log. The hash tells whether they did without keeping it. It is
//! taken over the parts of a line, so that a line which nobody reads is never written out.

use std::{collections::VecDeque, fmt, fmt::Write as _, hash::Hasher};

use rustc_hash::FxHasher;

/// Lines that are kept to be shown when a rule is broken.
const KEPT: usize = 400;

/// An entry of the log, after its time.
enum Entry {
    /// Text that was written out.
    Text(String),
    /// Something that went from an endpoint to an endpoint.
    Went { what: &'static str, from: usize, to: usize },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Went { what, from, to } => write!(f, "{what} {from}>{to}"),
        }
    }
}

/// The log.
pub(crate) struct Log {
    hash: FxHasher,
    lines: u64,
    recent: VecDeque<(u64, Entry)>,
    /// Everything, where asked for.
    all: Option<String>,
    keeps: bool,
}

impl Log {
    /// `whole`: keeps all lines. `recent`: keeps the last ones.
    pub(crate) fn new(whole: bool, recent: bool) -> Self {
        Self {
            hash: FxHasher::default(),
            lines: 0,
            recent: VecDeque::new(),
            all: whole.then(String::new),
            keeps: recent,
        }
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, at_us: u64, what: fmt::Arguments<'_>) {
        let text = what.to_string();
        self.hash.write(text.as_bytes());
        self.add(at_us, Entry::Text(text));
    }

    /// Adds a line about something that went from an endpoint to an endpoint.
    pub(crate) fn went(&mut self, at_us: u64, what: &'static str, from: usize, to: usize) {
        self.hash.write(what.as_bytes());
        self.hash.write_usize(from << 32 | to);
        self.add(at_us, Entry::Went { what, from, to });
    }

    /// Takes an event into the hash. Only a whole log has a line for each.
    pub(crate) fn happens(&mut self, at_us: u64, number: u64) {
        self.hash.write_u64(at_us);
        self.hash.write_u64(number);
        if let Some(all) = &mut self.all {
            // Writing to a string cannot fail.
            let _ = writeln!(all, "{}.{:03} event {number}", at_us / 1000, at_us % 1000);
        }
    }

    fn add(&mut self, at_us: u64, entry: Entry) {
        self.hash.write_u64(at_us);
        self.lines += 1;
        if let Some(all) = &mut self.all {
            // Writing to a string cannot fail.
            let _ = writeln!(all, "{}", ShownEntry(at_us, &entry));
        }
        if self.keeps {
            if self.recent.len() == KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back((at_us, entry));
        }
    }

    /// The hash over all that happened so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn take_whole(&mut self) -> Option<String> {
        self.all.take()
    }

    pub(crate) fn recent(&self) -> Vec<String> {
        self.recent.iter().map(|(at_us, entry)| ShownEntry(*at_us, entry).to_string()).collect()
    }
}

/// An entry as a reader sees it.
struct ShownEntry<'a>(u64, &'a Entry);

impl fmt::Display for ShownEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(at_us, entry) = self;
        write!(f, "{}.{:03} {entry}", at_us / 1000, at_us % 1000)
    }
}
