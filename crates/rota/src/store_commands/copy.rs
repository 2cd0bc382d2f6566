//! `rota store copy`.

use rota_engine::transfer::{CopyOptions, copy};
use serde_json::json;

use super::{
    failure::explain,
    progress::Reporter,
    stores::{Missing, Opened, open},
    summary,
};
use crate::{
    config::{Settings, Source},
    exit::Failure,
    output::{self, Format},
    store,
};

const AGAIN: &str = "run the same command again: it continues where this one stopped";

pub(super) async fn run(
    (from, to): (&str, &str),
    restart: bool,
    settings: &Settings,
    format: Format,
    opened: &Opened,
) -> Result<(), Failure> {
    if matches!(settings.source("store"), Source::Flag(_)) {
        return Err(Failure::usage("--store has no effect on a copy")
            .hint("name the stores as FROM and TO"));
    }
    if same_directory(from, to) {
        return Err(
            Failure::usage("FROM and TO are the same directory").hint("name two different stores")
        );
    }
    let from = open(Some(from), "FROM", settings, Missing::Refuse, opened).await?;
    let to = open(Some(to), "TO", settings, Missing::Create, opened).await?;
    let reporter = Reporter::new(format);
    let progress = |told| reporter.report(told);
    let copied = copy(&from, &to, CopyOptions { restart }, &progress).await;
    reporter.end();
    let status = to.store.status().await;
    let copied = copied.map_err(|error| explain(&error, AGAIN))?;
    if format.is_data() {
        return output::data(
            &json!({
                "from": copied.from,
                "to": copied.to,
                "written": copied.written,
                "resumed": copied.resumed,
                "from_head": copied.from_head.0,
                "to_head": copied.to_head.0,
            }),
            format,
        );
    }
    summary::print(&copied.to)?;
    if copied.resumed {
        let before = copied.to.records.saturating_sub(copied.written);
        output::line(&format!("Resumed: {before} records were there already."))?;
    }
    output::line(&format!("Copied {} to {}.", from.name, to.name))?;
    output::line(&format!("Checksum of FROM: {}", copied.from.checksum))?;
    output::line(&format!("Checksum of TO:   {}", copied.to.checksum))?;
    if let Some(pressure) = status.pressure.or(status.problem) {
        output::note(&format!("warning: {pressure}"));
    }
    Ok(())
}

/// Whether both are the same directory. Otherwise the second would be found to be in use by this very process.
fn same_directory(from: &str, to: &str) -> bool {
    let path = |url: &str| {
        let url = url.split_once('?').map_or(url, |(address, _)| address);
        store::directory(url).and_then(|directory| directory.canonicalize().ok())
    };
    path(from).is_some_and(|from| Some(from) == path(to))
}
