//! Records that this version cannot read: damaged, or of a newer version with a value that this one does not
//! know. They are left in the store as they are, and all other records are served.

use std::fmt::Display;

use bytes::Bytes;
use rota_store::Space;
use tracing::error;

/// So many are named in the log, so that very many of them do not fill it.
const NAMED: usize = 100;

/// What was found when a leader loaded.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    count: usize,
    /// The first of them: `<space>/<key>`, and why.
    named: Vec<(String, String)>,
}

impl Unreadable {
    pub(crate) fn add(&mut self, space: Space, key: &Bytes, why: &dyn Display) {
        self.count += 1;
        if self.named.len() < NAMED {
            let record = format!("{}/{}", space.name, String::from_utf8_lossy(key));
            self.named.push((record, why.to_string()));
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Names them in the log.
    pub(crate) fn log(&self) {
        for (record, why) in &self.named {
            error!(record, why, "record left alone: this version cannot read it");
        }
        let more = self.count - self.named.len();
        if more > 0 {
            error!(more, "more records left alone");
        }
    }
}

/// What readiness says of so many.
pub(crate) fn problem(count: usize) -> Option<String> {
    let records = if count == 1 { "record" } else { "records" };
    (count > 0).then(|| {
        format!(
            "{count} {records} cannot be read and are left alone; they are damaged, or a newer version wrote \
             them: the log names them"
        )
    })
}
