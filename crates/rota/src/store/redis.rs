//! Settings of Redis: the table `[store.redis]`.

use std::sync::Arc;

use rota_store::{
    Store,
    redis::{RedisDurability, RedisOptions, RedisStore, RedisTls, RedisUser},
};

use super::{explain, file, invalid, secret, text};
use crate::{config::Settings, exit::Failure};

pub(super) fn open(url: &str, settings: &Settings) -> Result<Arc<dyn Store>, Failure> {
    let defaults = RedisOptions::from_url(url).map_err(|error| invalid(&error))?;
    let files = RedisTls {
        ca_file: file(settings, "store.redis.ca_file"),
        cert_file: file(settings, "store.redis.cert_file"),
        key_file: file(settings, "store.redis.key_file"),
    };
    if files != RedisTls::default() && defaults.tls.is_none() {
        return Err(Failure::usage("the files for TLS in store.redis need a URL with rediss://")
            .hint("write rediss:// or rediss+sentinel:// in store, or remove the files"));
    }
    let options = RedisOptions {
        tls: defaults.tls.is_some().then_some(files),
        user: user(settings, "store.redis.user", "store.redis.password")?,
        sentinel_user: user(
            settings,
            "store.redis.sentinel_user",
            "store.redis.sentinel_password",
        )?,
        durability: match settings.text("store.redis.durability") {
            "async" => RedisDurability::Async,
            _ => RedisDurability::Always,
        },
        replicas: settings.get("store.redis.replicas")?,
        history: settings.span("store.redis.history")?,
        leader_ttl: settings.span("leader_ttl")?,
        ..defaults
    };
    Ok(Arc::new(RedisStore::open(options, rota_engine::SPACES).map_err(explain)?))
}

/// A user. One with a password and no name is Redis' own `default`.
fn user(
    settings: &Settings,
    name: &str,
    password: &'static str,
) -> Result<Option<RedisUser>, Failure> {
    let password = secret(settings, password)?;
    let nameless = (!password.is_empty()).then(|| "default".to_owned());
    Ok(text(settings, name).or(nameless).map(|name| RedisUser { name, password }))
}
