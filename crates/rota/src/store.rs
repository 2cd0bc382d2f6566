//! Opens the store that the settings name.

use std::{path::PathBuf, sync::Arc};

use rota_store::{
    EmbeddedOptions, EmbeddedStore, Store, StoreError,
    etcd::{EtcdOptions, EtcdStore, EtcdTls, EtcdUser},
};

use crate::{config::Settings, exit::Failure};

/// Opens the store that the settings name.
///
/// # Errors
/// When the URL is invalid, or the store cannot be opened.
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
        Some(("etcd", _)) => Ok(Arc::new(etcd(settings)?)),
        _ => Err(Failure::usage(format!("store = {url:?} is not a supported store"))
            .hint("use file:DIRECTORY, such as file:./rota-data, or etcd://HOST:PORT/PREFIX")),
    }
}

/// Whether several nodes can share the store that the settings name.
pub(crate) fn is_shared(settings: &Settings) -> bool {
    settings.text("store").starts_with("etcd:")
}

fn etcd(settings: &Settings) -> Result<EtcdStore, Failure> {
    let usage = |error: StoreError| Failure::usage(format!("store: {error}"));
    let defaults = EtcdOptions::from_url(settings.text("store")).map_err(usage)?;
    let file = |key: &str| Some(settings.text(key)).filter(|path| !path.is_empty()).map(Into::into);
    let tls = EtcdTls {
        ca_file: file("store_ca_file"),
        cert_file: file("store_cert_file"),
        key_file: file("store_key_file"),
    };
    let wanted = settings.get("store_tls")? || tls != EtcdTls::default();
    let user = settings.text("store_user");
    let options = EtcdOptions {
        tls: wanted.then_some(tls),
        user: (!user.is_empty()).then(|| EtcdUser {
            name: user.to_owned(),
            password: settings.text("store_password").to_owned(),
        }),
        txn_ops_max: settings.get("store_txn_ops_max")?,
        request_bytes_max: settings.get("store_request_bytes_max")?,
        history: settings.span("store_history")?,
        quota_bytes: settings.get("store_quota_bytes")?,
        leader_ttl: settings.span("leader_ttl")?,
        ..defaults
    };
    EtcdStore::open(options, rota_engine::SPACES).map_err(explain)
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
