//! Records that this version cannot read: damaged ones, or ones of a newer version with an unknown value.
//! They stay unchanged in the store, and all other records are served.

use std::fmt::Display;

use bytes::Bytes;
use rota_store::Space;
use tracing::error;

/// Maximum number of such records to log one by one.
const NAMED: usize = 100;

/// The unreadable records that a leader found when it loaded the backlog.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    count: usize,
    /// The first of them: `<space>/<key>`, and the reason.
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

    /// Logs them.
    pub(crate) fn log(&self) {
        for (record, why) in &self.named {
            error!(record, why, "skipped a record that this version cannot read");
        }
        let more = self.count - self.named.len();
        if more > 0 {
            error!(more, "skipped more records that this version cannot read");
        }
    }
}

/// The text of the readiness check for this many records.
pub(crate) fn problem(count: usize) -> Option<String> {
    let records = if count == 1 { "record" } else { "records" };
    (count > 0).then(|| {
        format!(
            "cannot read {count} {records} (damaged, or from a newer version); the log lists them, and they \
                         stay unchanged"
        )
    })
}
