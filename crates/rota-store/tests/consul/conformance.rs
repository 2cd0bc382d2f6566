//! The Consul backend against the obligations of a store.

use std::sync::Arc;

use async_trait::async_trait;
use rota_store::{
    Store,
    conformance::{SPACES, StoreFactory},
    consul::ConsulStore,
};

use crate::server::Consul;

#[async_trait]
impl StoreFactory for Consul {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(ConsulStore::open(self.options(), SPACES).expect("it opens"))
    }
}

rota_store::conformance_tests!(Consul::start());
