//! The one place that picks the store.

use std::{path::PathBuf, sync::Arc};

use rota_store::{EmbeddedOptions, EmbeddedStore, Store, StoreError};

use crate::{config::Settings, exit::Failure};

/// Opens the store that the settings name.
///
/// # Errors
/// When the URL names none, or it cannot be opened.
pub(crate) async fn open(settings: &Settings) -> Result<Arc<dyn Store>, Failure> {
    let url = settings.text("store");
    match url.split_once(':') {
        Some(("file", directory)) if !directory.is_empty() => {
            let directory = PathBuf::from(directory.strip_prefix("//").unwrap_or(directory));
            let options = EmbeddedOptions {
                cache_bytes: settings.get("store_cache_bytes")?,
                reserve_bytes: settings.get("store_reserve_bytes")?,
                ..EmbeddedOptions::default()
            };
            let opened = tokio::task::spawn_blocking(move || {
                EmbeddedStore::open(&directory, rota_engine::SPACES, options)
            });
            let store = opened.await.map_err(Failure::failed)?.map_err(explain)?;
            Ok(Arc::new(store))
        }
        _ => Err(Failure::usage(format!("store = {url:?} is not a store that Rota knows"))
            .hint("use file:DIRECTORY, such as file:./rota-data")),
    }
}

fn explain(error: StoreError) -> Failure {
    let hint = match &error {
        StoreError::Locked { .. } => {
            "stop the other process, or choose another directory with --store file:DIRECTORY"
        }
        StoreError::Format { .. } => "use the version of Rota that wrote it, or another directory",
        StoreError::Corrupt(_) => "restore the directory from a backup; nothing was changed",
        _ => "check the directory named by --store and its permissions",
    };
    Failure::failed(error).hint(hint)
}
