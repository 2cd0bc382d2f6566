//! Opens the store that the settings name.
//!
//! One file for each remote store: it maps the keys of the store's own table to the driver's options.

mod consul;
mod etcd;
mod redis;

use std::{path::PathBuf, sync::Arc};

use rota_store::{EmbeddedOptions, EmbeddedStore, Store, StoreError};

use crate::{
    config::{Settings, Source, table_of},
    exit::Failure,
};

/// Opens the store that the settings name.
///
/// # Errors
/// When the URL is invalid, or the store cannot be opened.
pub(crate) async fn open(settings: &Settings) -> Result<Arc<dyn Store>, Failure> {
    let url = settings.text("store");
    match table_of(url) {
        Some("embedded") => embedded(url, settings).await,
        Some("etcd") => etcd::open(url, settings),
        Some("redis") => redis::open(url, settings),
        Some("consul") => consul::open(url, settings),
        _ => Err(unknown(url)),
    }
}

fn unknown(url: &str) -> Failure {
    Failure::usage(format!("store = {url:?} is not a supported store")).hint(
        "use file:DIRECTORY, such as file:./rota-data, or etcd://HOST:PORT/PREFIX, redis://HOST:PORT, \
         redis+sentinel://HOST:PORT/MASTER or consul://HOST:PORT/PREFIX",
    )
}

/// The directory of an embedded store with this URL.
pub(crate) fn directory(url: &str) -> Option<PathBuf> {
    let directory = url.strip_prefix("file:")?;
    let directory = directory.strip_prefix("//").unwrap_or(directory);
    (!directory.is_empty()).then(|| directory.into())
}

async fn embedded(url: &str, settings: &Settings) -> Result<Arc<dyn Store>, Failure> {
    let Some(directory) = directory(url) else { return Err(unknown(url)) };
    let options = EmbeddedOptions {
        cache_bytes: settings.get("store.embedded.cache_bytes")?,
        reserve_bytes: settings.get("store.embedded.reserve_bytes")?,
        ..EmbeddedOptions::default()
    };
    let opened = tokio::task::spawn_blocking(move || {
        EmbeddedStore::open(&directory, rota_engine::SPACES, options)
    });
    Ok(Arc::new(opened.await.map_err(Failure::failed)?.map_err(explain)?))
}

/// The file that a key names, if it is set.
fn file(settings: &Settings, key: &str) -> Option<PathBuf> {
    Some(settings.text(key)).filter(|path| !path.is_empty()).map(Into::into)
}

/// The text of a key, if it is set.
fn text(settings: &Settings, key: &str) -> Option<String> {
    Some(settings.text(key)).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The secret of a key, which can also be in a file. Empty if neither is set.
fn secret(settings: &Settings, key: &'static str) -> Result<String, Failure> {
    let (text, file_key) = (settings.text(key), format!("{key}_file"));
    let path = settings.text(&file_key);
    if path.is_empty() {
        return Ok(text.to_owned());
    }
    // In the query of a store's URL, it is for that store alone.
    let both = !text.is_empty() && *settings.source(&file_key) != Source::StoreUrl;
    if both {
        return Err(
            Failure::usage(format!("{key} and {file_key} are both set")).hint("remove one of them")
        );
    }
    let failed = |why: String| {
        Failure::usage(format!("{file_key} = {path:?} ({}): {why}", settings.source(&file_key)))
    };
    let read = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let secret = read.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(failed("the file is empty".to_owned()));
    }
    Ok(secret.to_owned())
}

/// An address that a driver refuses.
fn invalid(error: &StoreError) -> Failure {
    Failure::usage(format!("store: {error}"))
}

fn explain(error: StoreError) -> Failure {
    let hint = match &error {
        StoreError::Locked { .. } => {
            "stop the other process, or choose another directory with --store file:DIRECTORY"
        }
        StoreError::Format { .. } => {
            "use the version of Rota that wrote the directory, or choose another directory"
        }
        StoreError::Corrupt(_) => {
            "restore the directory from a backup; this start changed nothing in it"
        }
        _ => "check the directory in --store and its permissions",
    };
    Failure::failed(error).hint(hint)
}
