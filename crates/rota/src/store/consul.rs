//! Settings of Consul: the table `[store.consul]`.

use std::sync::Arc;

use rota_store::{
    Store,
    consul::{ConsulOptions, ConsulStore, ConsulTls, ConsulToken},
};

use super::{explain, file, invalid, secret, text};
use crate::{
    config::{Settings, Source},
    exit::Failure,
};

pub(super) fn open(url: &str, settings: &Settings) -> Result<Arc<dyn Store>, Failure> {
    let defaults = ConsulOptions::from_url(url).map_err(|error| invalid(&error))?;
    let tls = ConsulTls {
        ca_file: file(settings, "store.consul.ca_file"),
        cert_file: file(settings, "store.consul.cert_file"),
        key_file: file(settings, "store.consul.key_file"),
    };
    let wanted = settings.get("store.consul.tls")? || tls != ConsulTls::default();
    // Consul takes no session that is shorter than its own default.
    let leader_ttl = match settings.source("leader_ttl") {
        Source::Default => defaults.leader_ttl,
        _ => settings.span("leader_ttl")?,
    };
    let token = secret(settings, "store.consul.token")?;
    let options = ConsulOptions {
        tls: wanted.then_some(tls),
        token: Some(token).filter(|token| !token.is_empty()).map(ConsulToken),
        datacenter: text(settings, "store.consul.datacenter"),
        namespace: text(settings, "store.consul.namespace"),
        size_bytes_max: settings.get("store.consul.size_bytes_max")?,
        leader_ttl,
        ..defaults
    };
    Ok(Arc::new(ConsulStore::open(options, rota_engine::SPACES).map_err(explain)?))
}
