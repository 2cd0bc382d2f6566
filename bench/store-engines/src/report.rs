//! What was measured: a line of JSON for each figure as it is taken, and a table in the end.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde_json::Value;

use crate::contestant::Which;

/// What was taken, by unit and engine.
type Taken = BTreeMap<(String, &'static str), Vec<f64>>;

/// All figures taken so far.
pub(crate) struct Report {
    file: Option<File>,
    /// By figure, in order of appearance.
    taken: Vec<(String, Taken)>,
}

impl Report {
    pub(crate) fn new(file: Option<&Path>) -> io::Result<Self> {
        Ok(Self { file: file.map(File::create).transpose()?, taken: Vec::new() })
    }

    /// Adds what was taken of one engine: an object of `figure`, `engine` and numbers.
    pub(crate) fn add(&mut self, figure: &Value) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            writeln!(file, "{figure}")?;
        }
        say(&figure.to_string());
        let name = figure["figure"].as_str().unwrap_or_default();
        let engine = figure["engine"].as_str().and_then(Which::parse);
        let (Some(engine), Some(values)) = (engine, figure.as_object()) else { return Ok(()) };
        let known = self.taken.iter().position(|(taken, _)| taken == name);
        let at = known.unwrap_or_else(|| {
            self.taken.push((name.to_owned(), BTreeMap::new()));
            self.taken.len() - 1
        });
        for (unit, value) in values {
            if let Some(value) = value.as_f64() {
                self.taken[at].1.entry((unit.clone(), engine.name())).or_default().push(value);
            }
        }
        Ok(())
    }

    /// The median of each figure of each engine, and how redb's relate to the embedded store's.
    pub(crate) fn table(&self) {
        let names = Which::ALL.map(Which::name);
        let [first, second, third] = names;
        say(&format!(
            "\n{:34} {:22} {first:>12} {second:>12} {third:>18}  {second}/{first}",
            "figure", "unit"
        ));
        for (figure, values) in &self.taken {
            let mut units: Vec<_> = values.keys().map(|(unit, _)| unit).collect();
            units.dedup();
            for unit in units {
                let of = |name| values.get(&(unit.clone(), name)).map(|taken| median(taken));
                let shown = names.map(|name| of(name).map_or("-".to_owned(), number));
                let ratio = of(second).zip(of(first)).map_or(0.0, |(redb, own)| redb / own);
                say(&format!(
                    "{figure:34} {unit:22} {:>12} {:>12} {:>18}  {ratio:.2}",
                    shown[0], shown[1], shown[2]
                ));
            }
        }
    }
}

fn median(taken: &[f64]) -> f64 {
    let mut sorted = taken.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
