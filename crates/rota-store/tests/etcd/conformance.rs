//! The etcd backend against the obligations of a store.

use std::sync::Arc;

use async_trait::async_trait;
use rota_store::{
    Store,
    conformance::{SPACES, StoreFactory},
    etcd::EtcdStore,
};

use crate::server::Etcd;

#[async_trait]
impl StoreFactory for Etcd {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(EtcdStore::open(self.options(), SPACES).expect("it opens"))
    }
}

rota_store::conformance_tests!(Etcd::start());
