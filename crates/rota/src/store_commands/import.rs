//! `rota store import`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use rota_engine::transfer::{FileHeader, FilePortion, FileReader, TransferError, import};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{
    failure::explain,
    progress::Reporter,
    stores::{Missing, Opened, open},
    summary,
};
use crate::{
    config::Settings,
    exit::Failure,
    output::{self, Format},
};

/// Portions of the file that are read ahead.
const AHEAD: usize = 4;
/// Maximum characters of the file's name in the store.
const NAME_MAX: usize = 200;

const AGAIN: &str = "run the same command again";

pub(super) async fn run(
    (file, store): (&Path, Option<&str>),
    restart: bool,
    settings: &Settings,
    format: Format,
    opened: &Opened,
) -> Result<(), Failure> {
    let (header, portions) = read(file)?;
    // Nothing is opened before the file turns out to be an export.
    let header = match header.await {
        Ok(header) => header.map_err(|error| explain(&error, AGAIN).after(&shown(file)))?,
        Err(_) => return Err(Failure::failed("reading the file ended early")),
    };
    let side = open(store, "STORE", settings, Missing::Create, opened).await?;
    let reporter = Reporter::new(format);
    let progress = |told| reporter.report(told);
    let name: String = shown(file).chars().take(NAME_MAX).collect();
    let imported = import(&side, &name, &header, portions, restart, &progress).await;
    reporter.end();
    let imported = imported.map_err(|error| match error {
        TransferError::File { .. } => explain(&error, AGAIN).after(&shown(file)),
        error => explain(&error, AGAIN),
    })?;
    if format.is_data() {
        let (contents, head) = (imported.contents, imported.head.0);
        return output::data(&json!({ "contents": contents, "head": head }), format);
    }
    summary::print(&imported.contents)?;
    output::line(&format!("Imported {} into {}.", shown(file), side.name))?;
    output::line(&format!("Checksum: {}", imported.contents.checksum))
}

fn shown(file: &Path) -> String {
    if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() }
}

type Header = oneshot::Receiver<Result<FileHeader, TransferError>>;
type Portions = mpsc::Receiver<Result<FilePortion, TransferError>>;

/// Starts reading a file.
fn read(file: &Path) -> Result<(Header, Portions), Failure> {
    let input: Box<dyn BufRead + Send> = if file.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let named = |error: io::Error| Failure::usage(format!("{}: {error}", file.display()));
        let opened = File::open(file).map_err(named)?;
        if opened.metadata().map_err(named)?.is_dir() {
            return Err(named(io::ErrorKind::IsADirectory.into()));
        }
        Box::new(BufReader::with_capacity(1 << 20, opened))
    };
    let (told, header) = oneshot::channel();
    let (sender, portions) = mpsc::channel(AHEAD);
    // Ends with the file or with the import. It is not joined, because standard input may stay silent.
    std::thread::spawn(move || {
        let mut reader = match FileReader::open(input) {
            Ok((header, reader)) => {
                // Nobody waits for it any more if the command was interrupted.
                let _ = told.send(Ok(header));
                reader
            }
            Err(error) => {
                let _ = told.send(Err(error));
                return;
            }
        };
        loop {
            let next = reader.next_portion();
            let is_last = matches!(next, Ok(FilePortion::End(_)) | Err(_));
            if sender.blocking_send(next).is_err() || is_last {
                return;
            }
        }
    });
    Ok((header, portions))
}
