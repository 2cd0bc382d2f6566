//! Fail points: places at which a test can crash the process, to check the state that it leaves behind.
//!
//! `ROTA_FAIL_POINT=after-commit:37` aborts the process when it reaches the point for the 37th time; without
//! a number, the first time. Only builds with the feature `fail-points`, for tests, have this. In other
//! builds [`FailPoint::reach`] is empty, and the variable is not read.
//!
//! In the same builds, `ROTA_STALL_FILE=/some/file` stalls the store while the file exists: each commit waits
//! until it is gone, as for a disk that does not answer.

/// A fail point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailPoint {
    /// The election is won, and nothing of the backlog has been read.
    AfterElection,
    /// A batch is built, and not yet sent to the store.
    BeforeCommit,
    /// A batch is durable, and nothing has been released yet.
    AfterCommit,
    /// A step is durable, the next may be in flight, and no worker has been told of either.
    BeforeDispatch,
    /// Workers have got their tasks, and clients have not got their answers.
    BeforeAnswer,
    /// Everything of a step has been released.
    AfterAnswer,
}

impl FailPoint {
    /// Crashes if the process must crash here.
    pub(crate) fn reach(self) {
        #[cfg(any(test, feature = "fail-points"))]
        armed::reach(self);
    }
}

/// Waits while the store is stalled.
pub(crate) async fn stalled() {
    #[cfg(any(test, feature = "fail-points"))]
    armed::stalled().await;
}

#[cfg(any(test, feature = "fail-points"))]
mod armed {
    use std::{
        path::PathBuf,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use tokio::time::{Instant, sleep_until};

    use super::FailPoint;

    const VARIABLE: &str = "ROTA_FAIL_POINT";

    const ALL: [(FailPoint, &str); 6] = [
        (FailPoint::AfterElection, "after-election"),
        (FailPoint::BeforeCommit, "before-commit"),
        (FailPoint::AfterCommit, "after-commit"),
        (FailPoint::BeforeDispatch, "before-dispatch"),
        (FailPoint::BeforeAnswer, "before-answer"),
        (FailPoint::AfterAnswer, "after-answer"),
    ];

    /// The fail point at which to crash, and the count.
    #[derive(Debug, PartialEq, Eq)]
    struct Armed {
        point: FailPoint,
        time: u64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok()?;
        // A test with a misspelt name would pass because nothing happens.
        Some(parse(&text).unwrap_or_else(|| panic!("{VARIABLE}: no such fail point: {text}")))
    });

    static STALL: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("ROTA_STALL_FILE").map(PathBuf::from));
    /// Interval of checks for the end of a stall.
    const STALL_LOOK: Duration = Duration::from_millis(5);

    pub(super) async fn stalled() {
        while STALL.as_ref().is_some_and(|file| file.exists()) {
            sleep_until(Instant::now() + STALL_LOOK).await;
        }
    }

    static REACHED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn reach(point: FailPoint) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.point == point) else { return };
        if REACHED.fetch_add(1, Ordering::Relaxed) + 1 == armed.time {
            // As sudden as SIGKILL: nothing is flushed, closed or dropped.
            std::process::abort();
        }
    }

    fn parse(text: &str) -> Option<Armed> {
        let (name, time) = text.split_once(':').unwrap_or((text, "1"));
        let (point, _) = ALL.into_iter().find(|(_, known)| *known == name)?;
        Some(Armed { point, time: time.parse().ok().filter(|time| *time > 0)? })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_named_with_its_time() {
            let armed = |point, time| Some(Armed { point, time });
            assert_eq!(parse("after-commit:37"), armed(FailPoint::AfterCommit, 37));
            assert_eq!(parse("before-answer"), armed(FailPoint::BeforeAnswer, 1));
            for wrong in ["", "after", "after-commit:", "after-commit:0", "after-commit:x"] {
                assert_eq!(parse(wrong), None, "{wrong}");
            }
        }
    }
}
