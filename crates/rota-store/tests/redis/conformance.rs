//! The Redis backend against the obligations of a store, on each server that is supported.

use std::sync::Arc;

use async_trait::async_trait;
use rota_store::{
    Store,
    conformance::{SPACES, StoreFactory},
    redis::RedisStore,
};

use crate::server::Redis;

#[async_trait]
impl StoreFactory for Redis {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(RedisStore::open(self.options(), SPACES).expect("it opens"))
    }
}

mod redis_7 {
    rota_store::conformance_tests!(crate::server::Redis::start());
}

mod valkey_8 {
    rota_store::conformance_tests!(crate::server::Redis::valkey());
}
