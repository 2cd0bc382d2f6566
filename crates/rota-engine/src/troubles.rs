//! Log messages of failed campaigns.

use std::time::Duration;

use rota_store::StoreError;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Interval of warnings for the same reason.
const CAMPAIGN_REMINDER: Duration = Duration::from_secs(600);

/// Consecutive failed campaigns. For example, a taken name stays taken until somebody acts, and a campaign
/// fails every few seconds, so one log line is enough for a while.
#[derive(Default)]
pub(crate) struct CampaignTroubles {
    told: Option<(String, Instant)>,
}

impl CampaignTroubles {
    pub(crate) fn tell(&mut self, error: &StoreError) {
        if !self.is_news(error, Instant::now()) {
            debug!(%error, "campaign failed again");
        } else if matches!(error, StoreError::NameTaken { .. }) {
            warn!(%error, "campaign failed; stop the other node, or restart this one with another --node name");
        } else {
            warn!(%error, "campaign failed");
        }
    }

    fn is_news(&mut self, error: &StoreError, now: Instant) -> bool {
        let error = error.to_string();
        let known = self.told.as_ref().is_some_and(|(told, at)| {
            *told == error && now.duration_since(*at) < CAMPAIGN_REMINDER
        });
        if !known {
            self.told = Some((error, now));
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_that_fails_again_and_again_is_told_rarely() {
        let taken = |name: &str| StoreError::NameTaken { name: name.to_owned(), address: None };
        let (mut troubles, begin) = (CampaignTroubles::default(), Instant::now());
        let mut told = 0;
        for second in (0..3600).step_by(3) {
            told += u32::from(troubles.is_news(&taken("a"), begin + Duration::from_secs(second)));
        }
        assert_eq!(told, 6);
        let later = begin + Duration::from_secs(3601);
        assert!(troubles.is_news(&StoreError::Unavailable("away".to_owned()), later));
        assert!(troubles.is_news(&taken("a"), later), "it is another trouble again");
    }
}
