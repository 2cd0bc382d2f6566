//! Opens the stores that a command names.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rota_engine::transfer::Side;
use rota_store::Store;

use crate::{
    config::{self, Scope, Settings, Source},
    exit::{Exit, Failure},
    store,
};

/// Whether a store that is not there is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Refuse,
}

/// The stores that a command has opened. Closing them gives up what is held, so that nobody waits for it to expire.
#[derive(Default)]
pub(super) struct Opened(Mutex<Vec<Arc<dyn Store>>>);

impl Opened {
    pub(super) async fn close(self) {
        for store in self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            store.close().await;
        }
    }
}

/// Opens the store at `url`, the argument `name` of the command, or else that of the settings.
pub(super) async fn open(
    url: Option<&str>,
    name: &'static str,
    settings: &Settings,
    missing: Missing,
    opened: &Opened,
) -> Result<Side, Failure> {
    let of_url;
    let settings = match url {
        None => settings,
        Some(_) if matches!(settings.source("store"), Source::Flag(_)) => {
            return Err(Failure::usage(format!("{name} and --store both name a store"))
                .hint("remove --store"));
        }
        Some(url) => {
            of_url = settings.for_store(url, name)?;
            &of_url
        }
    };
    config::check(settings, &[Scope::Store])?;
    let url = settings.text("store");
    let directory = store::directory(url);
    let is_there = |directory: &PathBuf| directory.join("format").exists();
    if missing == Missing::Refuse && directory.as_ref().is_some_and(|path| !is_there(path)) {
        return Err(Failure::new(Exit::NotFound, format!("{url} is not a data directory of Rota"))
            .hint("check the path"));
    }
    let store = store::open(settings).await?;
    opened.0.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
    // The same directory has the same name, wherever the command runs.
    let path = directory.and_then(|path| path.canonicalize().ok());
    let name = path.map_or_else(|| url.to_owned(), |path| format!("file:{}", path.display()));
    Ok(Side { store, name })
}
