//! Which faults are on: some rules hold only while all is well, or while only the store is troubled.

/// Faults as the auditor sees them.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    on: u32,
    /// Faults of machines and the network, and answers of the store that get lost.
    beyond_store: u32,
    store: u32,
    /// Since when there is no fault at all, and none but the store's.
    calm_since_us: u64,
    within_store_since_us: u64,
    /// The store was well between these two.
    store_well_since_us: u64,
    store_well_until_us: u64,
}

impl Weather {
    /// A fault begins. `delays`: the store does its work, late.
    pub(crate) fn begin(&mut self, now_us: u64, delays: bool) {
        self.on += 1;
        if delays {
            if self.store == 0 {
                self.store_well_until_us = now_us;
            }
            self.store += 1;
        } else {
            self.beyond_store += 1;
        }
    }

    /// A fault ends.
    pub(crate) fn end(&mut self, now_us: u64, delays: bool) {
        self.on -= 1;
        self.calm_since_us = now_us;
        if delays {
            self.store -= 1;
            self.store_well_since_us = now_us;
        } else {
            self.beyond_store -= 1;
            self.within_store_since_us = now_us;
        }
    }

    /// Whether nothing was wrong since then.
    pub(super) fn was_calm(&self, since_us: u64) -> bool {
        self.on == 0 && self.calm_since_us <= since_us
    }

    /// Whether a leader could be sure of its leadership between these two, whose lease lasts so long:
    /// nothing but the store was troubled for long before, and that for less than half a lease.
    pub(super) fn keeps_leader(&self, now_us: u64, since_us: u64, ttl_us: u64) -> bool {
        let trouble_us = if self.store == 0 { now_us } else { self.store_well_until_us };
        let store_well = now_us.saturating_sub(trouble_us) < ttl_us / 2
            && self.store_well_since_us + ttl_us <= trouble_us.min(since_us);
        let long_before = self.within_store_since_us + 2 * ttl_us <= since_us;
        self.beyond_store == 0 && long_before && store_well
    }
}
