//! `rota store export`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rota_engine::transfer::{FileHeader, export};
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
};

pub(super) async fn run(
    file: &Path,
    store: Option<&str>,
    settings: &Settings,
    format: Format,
    opened: &Opened,
) -> Result<(), Failure> {
    let mut target = Target::create(file)?;
    let side = open(store, "STORE", settings, Missing::Refuse, opened).await?;
    let reporter = Reporter::new(format);
    let progress = |told| reporter.report(told);
    let header = FileHeader::new(env!("CARGO_PKG_VERSION"), jiff::Timestamp::now().to_string());
    let mut write = |bytes: &[u8]| target.write(bytes);
    let exported = export(&side, header, &mut write, &progress).await;
    reporter.end();
    let exported = exported.map_err(|error| explain(&error, "run the command again"))?;
    if target.finish()? {
        return Ok(());
    }
    if format.is_data() {
        let (contents, head) = (exported.contents, exported.head.0);
        return output::data(&json!({ "contents": contents, "head": head }), format);
    }
    summary::print(&exported.contents)?;
    output::line(&format!("Exported {} to {}.", side.name, file.display()))?;
    output::line(&format!("Checksum: {}", exported.contents.checksum))
}

/// Where an export goes. A file gets its name when it is complete.
enum Target {
    Output(BufWriter<io::Stdout>),
    File { part: Part, to: PathBuf, out: BufWriter<File> },
}

/// A file that is removed unless it is kept.
struct Part(Option<PathBuf>);

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What is left is no export, and its name says so.
            let _ = fs::remove_file(path);
        }
    }
}

impl Target {
    fn create(file: &Path) -> Result<Self, Failure> {
        if file.as_os_str() == "-" {
            return Ok(Self::Output(BufWriter::new(io::stdout())));
        }
        let named = |error: io::Error| Failure::usage(format!("{}: {error}", file.display()));
        if file.exists() {
            return Err(Failure::new(Exit::Refused, format!("{} exists", file.display()))
                .hint("choose another name, or remove the file"));
        }
        let mut part = file.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // An export has payloads and results, so only its owner can read it.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let out = BufWriter::with_capacity(1 << 20, options.open(&part).map_err(named)?);
        Ok(Self::File { part: Part(Some(part)), to: file.to_owned(), out })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Output(out) => out.write_all(bytes),
            Self::File { out, .. } => out.write_all(bytes),
        }
    }

    /// Makes the file durable. Returns whether it is standard output.
    fn finish(self) -> Result<bool, Failure> {
        match self {
            Self::Output(mut out) => {
                out.flush()?;
                Ok(true)
            }
            Self::File { mut part, to, out } => {
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.sync_all()?;
                if let Some(path) = part.0.take() {
                    fs::rename(path, to)?;
                }
                Ok(false)
            }
        }
    }
}
