//! The embedded backend against the obligations of a store.

use std::sync::Arc;

use async_trait::async_trait;
use rota_store::{
    EmbeddedOptions, EmbeddedStore, Store,
    conformance::{SPACES, StoreFactory},
};
use tempfile::TempDir;

struct Embedded(TempDir);

#[async_trait]
impl StoreFactory for Embedded {
    async fn open(&self) -> Arc<dyn Store> {
        let options = EmbeddedOptions { reserve_bytes: 1 << 20, ..EmbeddedOptions::default() };
        Arc::new(EmbeddedStore::open(self.0.path(), SPACES, options).expect("it opens"))
    }
}

rota_store::conformance_tests!(Embedded(tempfile::tempdir().unwrap()));
