//! The only place where the engine reads the clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rota_core::{Millis, MonoTime, Now, WallTime};

/// Both clocks of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        // A clock before 1970 is as good as one at 1970: nothing can be due earlier.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall: WallTime(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
            mono: MonoTime(Millis(elapsed_ms(self.origin)).0),
        }
    }
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
