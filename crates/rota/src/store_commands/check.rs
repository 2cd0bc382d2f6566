//! `rota store check`.

use rota_engine::transfer::{Fault, check};
use serde_json::json;

use super::{
    failure::explain,
    progress::Reporter,
    stores::{Missing, Opened, open},
    summary,
};
use crate::{
    config::Settings,
    exit::{Exit, Failure},
    output::{self, Format},
    text,
};

pub(super) async fn run(
    store: Option<&str>,
    settings: &Settings,
    format: Format,
    opened: &Opened,
) -> Result<(), Failure> {
    let side = open(store, "STORE", settings, Missing::Refuse, opened).await?;
    let reporter = Reporter::new(format);
    let progress = |told| reporter.report(told);
    let mut faults = Vec::new();
    let mut printed = Ok(());
    let mut tell = |Fault { record, what }: Fault| {
        if format.is_data() {
            faults.push(json!({ "record": record, "fault": what }));
        } else if printed.is_ok() {
            printed = output::line(&format!("{}: {}", text::line(&record), text::line(&what)));
        }
    };
    let checked = check(&side, &mut tell, &progress).await;
    reporter.end();
    let report = checked.map_err(|error| explain(&error, "run the command again"))?;
    printed?;
    if format.is_data() {
        output::data(
            &json!({
                "contents": report.contents, "head": report.head.0, "faults": faults,
            }),
            format,
        )?;
    } else {
        if report.faults > 0 {
            output::line("")?;
        }
        summary::print(&report.contents)?;
        output::line(&format!("Checksum: {}", report.contents.checksum))?;
    }
    match report.faults {
        0 if !format.is_data() => output::line("No faults."),
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Faulty, "the store has 1 fault")),
        count => Err(Failure::new(Exit::Faulty, format!("the store has {count} faults"))),
    }
}
