//! The keys of each store's own table.

use super::keys::{Key, Scope::Store, Takes, key, number, secret, switch, time};

const fn text(name: &'static str, value_name: &'static str, help: &'static str) -> Key {
    key(Store, name, "", value_name, Takes::Text, help)
}

const fn file(name: &'static str, help: &'static str) -> Key {
    text(name, "FILE", help)
}

const fn bytes(name: &'static str, default: &'static str, least: u64, help: &'static str) -> Key {
    number(Store, name, default, "BYTES", (least, 1 << 50), help)
}

const CA: &str = "CA certificates that must have signed the certificate of the store (PEM)";
const CERT: &str = "Client certificate for the store (PEM)";
const PRIVATE_KEY: &str = "Private key of the client certificate (PEM)";

/// The keys of the tables `[store.embedded]`, `[store.etcd]`, `[store.redis]` and `[store.consul]`.
pub(super) const STORE_KEYS: &[Key] = &[
    bytes("store.embedded.cache_bytes", "67108864", 0, "Memory to cache data of the embedded store")
        .formerly("store_cache_bytes"),
    bytes(
        "store.embedded.reserve_bytes",
        "268435456",
        0,
        "Disk space to keep free. Below it, Rota refuses all changes; below twice as much, new tasks",
    )
    .formerly("store_reserve_bytes"),
    text("store.etcd.user", "NAME", "User name for etcd. Set the password with store.etcd.password")
        .formerly("store_user"),
    secret(Store, "store.etcd.password", "Password for etcd").formerly("store_password"),
    file("store.etcd.password_file", "File with the password for etcd"),
    switch(Store, "store.etcd.tls", "Use TLS with etcd even if none of the three files is set")
        .formerly("store_tls"),
    file("store.etcd.ca_file", CA).formerly("store_ca_file"),
    file("store.etcd.cert_file", CERT).formerly("store_cert_file"),
    file("store.etcd.key_file", PRIVATE_KEY).formerly("store_key_file"),
    number(
        Store,
        "store.etcd.txn_ops_max",
        "128",
        "N",
        (8, 100_000),
        "Maximum number of operations in one transaction; the same as etcd's --max-txn-ops",
    )
    .formerly("store_txn_ops_max"),
    number(
        Store,
        "store.etcd.request_bytes_max",
        "1572864",
        "BYTES",
        (64 << 10, 1 << 30),
        "Maximum size of one request; the same as etcd's --max-request-bytes",
    )
    .formerly("store_request_bytes_max"),
    bytes(
        "store.etcd.quota_bytes",
        "2147483648",
        16 << 20,
        "Maximum size of etcd's database; the same as its --quota-backend-bytes. Rota refuses new tasks before the \
         database is full",
    )
    .formerly("store_quota_bytes"),
    time(
        Store,
        "store.etcd.history",
        "10m",
        ("1s", "30d"),
        "Age at which the leader makes etcd compact old revisions",
    )
    .formerly("store_history"),
    text("store.redis.user", "NAME", "ACL user for Redis. Default: the user `default` if a password is set"),
    secret(Store, "store.redis.password", "Password for Redis"),
    file("store.redis.password_file", "File with the password for Redis"),
    text("store.redis.sentinel_user", "NAME", "ACL user for the Sentinels"),
    secret(Store, "store.redis.sentinel_password", "Password for the Sentinels"),
    file("store.redis.sentinel_password_file", "File with the password for the Sentinels"),
    file("store.redis.ca_file", CA),
    file("store.redis.cert_file", CERT),
    file("store.redis.key_file", PRIVATE_KEY),
    key(
        Store,
        "store.redis.durability",
        "always",
        "MODE",
        Takes::OneOf(&["always", "async"]),
        "always: refuse a Redis that can lose acknowledged writes when it crashes. async: accept that the last \
         writes can be lost",
    ),
    number(
        Store,
        "store.redis.replicas",
        "0",
        "N",
        (0, 16),
        "Number of replicas that must have a change before it is acknowledged",
    ),
    time(
        Store,
        "store.redis.history",
        "10m",
        ("1s", "30d"),
        "How long Redis keeps changes for the nodes that follow them",
    ),
    switch(Store, "store.consul.tls", "Use TLS with Consul even if none of the three files is set"),
    secret(Store, "store.consul.token", "ACL token for Consul"),
    file("store.consul.token_file", "File with the ACL token for Consul"),
    file("store.consul.ca_file", CA),
    file("store.consul.cert_file", CERT),
    file("store.consul.key_file", PRIVATE_KEY),
    text("store.consul.datacenter", "NAME", "Datacenter of Consul. Default: that of the agent"),
    text("store.consul.namespace", "NAME", "Namespace of the keys (Consul Enterprise)"),
    bytes(
        "store.consul.size_bytes_max",
        "536870912",
        16 << 20,
        "Memory that Consul may use for this store. Rota refuses new tasks before it is full",
    ),
];
