//! Settings of etcd: the table `[store.etcd]`.

use std::sync::Arc;

use rota_store::{
    Store,
    etcd::{EtcdOptions, EtcdStore, EtcdTls, EtcdUser},
};

use super::{explain, file, invalid, secret, text};
use crate::{config::Settings, exit::Failure};

pub(super) fn open(url: &str, settings: &Settings) -> Result<Arc<dyn Store>, Failure> {
    let defaults = EtcdOptions::from_url(url).map_err(|error| invalid(&error))?;
    let tls = EtcdTls {
        ca_file: file(settings, "store.etcd.ca_file"),
        cert_file: file(settings, "store.etcd.cert_file"),
        key_file: file(settings, "store.etcd.key_file"),
    };
    let wanted = settings.get("store.etcd.tls")? || tls != EtcdTls::default();
    let password = secret(settings, "store.etcd.password")?;
    let options = EtcdOptions {
        tls: wanted.then_some(tls),
        user: text(settings, "store.etcd.user").map(|name| EtcdUser { name, password }),
        txn_ops_max: settings.get("store.etcd.txn_ops_max")?,
        request_bytes_max: settings.get("store.etcd.request_bytes_max")?,
        history: settings.span("store.etcd.history")?,
        quota_bytes: settings.get("store.etcd.quota_bytes")?,
        leader_ttl: settings.span("leader_ttl")?,
        ..defaults
    };
    Ok(Arc::new(EtcdStore::open(options, rota_engine::SPACES).map_err(explain)?))
}
