//! What the tests of elections do to Redis.

use std::time::{Duration, SystemTime};

use rota_store::redis::{RedisOptions, RedisServers};

use crate::{
    elections::{Seats, TTL},
    proxy::Proxy,
    server::Redis,
};

impl Seats for Redis {
    const TAKEOVER: Duration = TTL.saturating_add(Duration::from_secs(1));
    const HAND_OVER: Duration = Duration::from_millis(200);

    fn with_ttl(&self, leader_ttl: Duration) -> RedisOptions {
        RedisOptions { leader_ttl, ..self.options() }
    }

    fn through(&self, proxy: &Proxy) -> RedisOptions {
        RedisOptions { servers: RedisServers::Single(proxy.endpoint()), ..self.brief() }
    }

    fn remove_leader(&self) {
        self.cli(&["DEL", "{rota}:leader"]);
    }

    fn remove_node(&self, name: &str) {
        self.cli(&["HDEL", "{rota}:nodes", name]);
    }

    fn enter(&self, name: &str, node: &str, seconds: u64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let ends = (now + Duration::from_secs(seconds)).as_millis();
        self.cli(&["HSET", "{rota}:nodes", name, &format!("{ends} former {node}")]);
    }

    fn holder(&self, name: &str) -> String {
        let entry = self.cli(&["HGET", "{rota}:nodes", name]);
        entry.split(' ').nth(1).unwrap().to_owned()
    }

    fn set_other_format(&self) {
        self.cli(&["SET", "{rota}:format", "2"]);
    }
}
