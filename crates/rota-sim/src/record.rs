//! Adds up runs: those of one call, and those of many evenings in a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rota_sim::{Options, RunOutcome};

/// What runs came to.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) runs: u64,
    pub(crate) events: u64,
    pub(crate) failed: u64,
    simulated: Duration,
}

impl Totals {
    pub(crate) fn add(&mut self, outcome: &RunOutcome) {
        self.runs += 1;
        self.events += outcome.events;
        self.failed += u64::from(!outcome.violations.is_empty());
        self.simulated += outcome.simulated;
    }

    /// A line for people.
    pub(crate) fn told(&self, took: Duration) -> String {
        let Self { runs, events, failed, simulated } = self;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = *events as f64 / took.as_secs_f64();
        format!(
            "{runs} seeds, {failed} failed, {events} events in {:.1} s ({rate:.0} events/s), {} s simulated",
            took.as_secs_f64(),
            simulated.as_secs(),
        )
    }
}

/// A file with a line for each run: label, way, seed, events, hash and result, with tabs between.
pub(crate) struct Record {
    path: PathBuf,
    file: File,
}

impl Record {
    pub(crate) fn open(path: &str) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("cannot write the record {path}: {error}"))?;
        Ok(Self { path: path.into(), file })
    }

    /// Adds a run. It is in the file when this returns, so little is lost when the program is ended.
    pub(crate) fn add(
        &mut self,
        label: &str,
        options: &Options,
        outcome: &RunOutcome,
    ) -> Result<(), String> {
        let way = if options.wire { "wire" } else { "calls" };
        let result = match outcome.violations.first() {
            None => "clean".to_owned(),
            Some(violation) => format!("{:?}", violation.rule),
        };
        let (seed, events, hash) = (options.seed, outcome.events, outcome.hash);
        let line = format!("{label}\t{way}\t{seed}\t{events}\t{hash:016x}\t{result}\n");
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|error| format!("cannot write the record {}: {error}", self.path.display()))
    }

    /// What all runs in the file came to, and those of this label.
    pub(crate) fn totals(&self, label: &str) -> Result<String, String> {
        let wrong = |error| format!("cannot read the record {}: {error}", self.path.display());
        let (all, labelled) = sum(&self.path, label).map_err(wrong)?;
        Ok(format!(
            "{}: {} seeds, {} failed, {} events; of {label}: {} seeds, {} failed, {} events",
            self.path.display(),
            all.runs,
            all.failed,
            all.events,
            labelled.runs,
            labelled.failed,
            labelled.events,
        ))
    }
}

fn sum(path: &Path, label: &str) -> io::Result<(Totals, Totals)> {
    let (mut all, mut labelled) = (Totals::default(), Totals::default());
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let parts: Vec<_> = line.split('\t').collect();
        // The last line may have been cut off.
        let &[of, _, _, events, _, result] = parts.as_slice() else { continue };
        let Ok(events) = events.parse::<u64>() else { continue };
        for totals in [Some(&mut all), Some(&mut labelled).filter(|_| of == label)] {
            let Some(totals) = totals else { continue };
            totals.runs += 1;
            totals.events += events;
            totals.failed += u64::from(result != "clean");
        }
    }
    Ok((all, labelled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_added_up() {
        let path = std::env::temp_dir().join(format!("rota-sim-record-{}", std::process::id()));
        let lines = "a\tcalls\t1\t100\tff\tclean\nb\twire\t2\t20\tff\tLost\nb\twire\t3\t3\tff\tclean\nb\twi";
        std::fs::write(&path, lines).unwrap();
        let (all, labelled) = sum(&path, "b").unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((all.runs, all.failed, all.events), (3, 1, 123));
        assert_eq!((labelled.runs, labelled.failed, labelled.events), (2, 1, 23));
    }
}
