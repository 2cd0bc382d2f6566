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

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use super::*;
    use crate::layout::LIVE;

    fn logged(count: usize) -> String {
        let mut unreadable = Unreadable::default();
        for number in 0..count {
            unreadable.add(LIVE, &Bytes::from(format!("k{number}")), &"no such variant");
        }
        assert_eq!(unreadable.count(), count);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let file = Arc::new(File::create(&path).expect("a file"));
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(file).finish();
        tracing::subscriber::with_default(log, || unreadable.log());
        std::fs::read_to_string(path).expect("text")
    }

    #[test]
    fn the_log_names_what_cannot_be_read() {
        assert_eq!(logged(0), "");
        let log = logged(NAMED);
        assert_eq!(log.lines().count(), NAMED);
        assert!(log.contains(r#"record="live/k0" why="no such variant""#), "{log}");
    }

    #[test]
    fn the_log_counts_what_it_does_not_name() {
        let log = logged(NAMED + 7);
        assert_eq!(log.lines().count(), NAMED + 1);
        let last = log.lines().last().expect("a line");
        assert!(last.contains("skipped more records") && last.contains("more=7"), "{last}");
    }

    #[test]
    fn the_readiness_check_counts_records() {
        assert_eq!(problem(0), None);
        assert!(problem(1).expect("a problem").starts_with("cannot read 1 record ("));
        assert!(problem(2).expect("a problem").starts_with("cannot read 2 records ("));
    }
}
