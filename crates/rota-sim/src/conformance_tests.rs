//! The simulated store passes the suite that every backend passes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use rota_store::{
    BatchLimits, Store,
    conformance::{self, OBLIGATIONS, SPACES, StoreFactory},
};

use crate::{
    audit::Auditor,
    log::Log,
    machine::Machine,
    seed::Seed,
    store::{Central, SimStore, StoreLimits, tell_observers, tell_watchers},
    world::{Endpoint, Inner, Latency, Net, Site, World},
};

/// The process that uses the store.
const USER: Endpoint = Endpoint(1);

struct Factory(World);

#[async_trait]
impl StoreFactory for Factory {
    async fn open(&self) -> Arc<dyn Store> {
        SimStore::connect(&self.0, USER)
    }
}

fn world(seed: Seed, batch: BatchLimits) -> World {
    let limits = StoreLimits { batch, leader_ttl_us: 3_000_000 };
    let net = Net::new(seed.rng("net", 0), 2, Latency { min_us: 100, max_us: 3_000 });
    let central = Central::new(SPACES, limits, seed.rng("store", 0));
    let sites = vec![Site::default(), Site { up: true, incarnation: 1, ..Site::default() }];
    let audit = Auditor::new(crate::Rule::ALL.to_vec());
    World::new(Inner::new(net, sites, central, audit, Log::new(false, false)))
}

/// Checks one obligation in simulated time.
fn check(name: &'static str, seed: u64, batch: BatchLimits) {
    let world = world(Seed(seed), batch);
    let mut machine = Machine::new(world.rest().clone());
    let runtime = machine.boot(0, seed).unwrap();
    let failed = Arc::new(Mutex::new(None));
    let (factory, said) = (Factory(world.clone()), failed.clone());
    runtime.spawn(async move {
        let checked = tokio::spawn(async move { conformance::check(name, &factory).await });
        *said.lock().unwrap() = Some(checked.await);
    });
    for tick in 1..600_000_u64 {
        {
            let mut inner = world.lock();
            inner.now_us = tick * 1000;
            inner.run_due();
            tell_observers(&mut inner);
            tell_watchers(&mut inner);
        }
        machine.tick(Duration::from_millis(1));
        if let Some(result) = failed.lock().unwrap().take() {
            assert!(result.is_ok(), "{name}: {result:?}");
            return;
        }
    }
    panic!("{name} does not end");
}

#[test]
fn the_store_meets_every_obligation() {
    let large = BatchLimits { mutations_max: 10_000, bytes_max: 40 << 20, mutation_bytes: 64 };
    let small = BatchLimits { mutations_max: 2_048, bytes_max: 1 << 20, mutation_bytes: 128 };
    for (name, _) in OBLIGATIONS {
        check(name, 1, large);
        check(name, 2, small);
    }
}
