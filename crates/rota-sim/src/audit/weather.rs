//! Which faults are on: some rules hold only while all is well.

/// Faults as the auditor sees them.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    on: u32,
    /// Since when there is none.
    calm_since_us: u64,
}

impl Weather {
    /// A fault begins.
    pub(crate) fn begin(&mut self) {
        self.on += 1;
    }

    /// A fault ends.
    pub(crate) fn end(&mut self, now_us: u64) {
        self.on -= 1;
        self.calm_since_us = now_us;
    }

    /// Whether nothing was wrong since then.
    pub(super) fn was_calm(&self, since_us: u64) -> bool {
        self.on == 0 && self.calm_since_us <= since_us
    }
}
