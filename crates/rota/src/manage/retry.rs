//! The flags of the retry policy, for all commands that set it.

use clap::Args;
use rota_client::{
    TimeSpan,
    v1::{Jitter, RetryPolicy},
};

// No doc comment: clap would show it as the description of the command.
#[derive(Debug, Default, Args)]
pub(super) struct RetryArgs {
    /// Attempts before the task fails for good [default for new tasks: 25].
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Number of times the task may lose its worker [default for new tasks: 3].
    #[arg(long, value_name = "N")]
    max_lost: Option<u32>,
    /// Number of times the handler may snooze the task [default for new tasks: 1000].
    #[arg(long, value_name = "N")]
    max_snoozes: Option<u32>,
    /// Delay after the first failure [default for new tasks: 1s].
    #[arg(long, value_name = "TIME")]
    backoff_initial: Option<TimeSpan>,
    /// Factor by which the delay grows with each failure, 1 to 100 [default for new tasks: 2].
    #[arg(long, value_name = "FACTOR")]
    backoff_multiplier: Option<f64>,
    /// Maximum delay after a failure [default for new tasks: 1h].
    #[arg(long, value_name = "TIME")]
    backoff_max: Option<TimeSpan>,
    /// Wait for a random part of the delay, so that tasks that failed together are not retried together. The
    /// default for new tasks.
    #[arg(long, conflicts_with = "no_jitter")]
    jitter: bool,
    /// Wait for the full delay after a failure.
    #[arg(long)]
    no_jitter: bool,
}

/// Ids of the flags.
pub(super) const FLAGS: [&str; 8] = [
    "max_attempts",
    "max_lost",
    "max_snoozes",
    "backoff_initial",
    "backoff_multiplier",
    "backoff_max",
    "jitter",
    "no_jitter",
];

impl RetryArgs {
    /// The policy, if a flag sets a part of it.
    pub(super) fn policy(self) -> Option<RetryPolicy> {
        let jitter = match (self.jitter, self.no_jitter) {
            (true, _) => Some(Jitter::Full),
            (_, true) => Some(Jitter::None),
            _ => None,
        };
        let policy = RetryPolicy {
            max_attempts: self.max_attempts,
            initial: self.backoff_initial,
            multiplier: self.backoff_multiplier,
            max: self.backoff_max,
            jitter: jitter.map(Into::into),
            max_lost: self.max_lost,
            max_snoozes: self.max_snoozes,
        };
        (policy != RetryPolicy::default()).then_some(policy)
    }
}

/// Paths of the fields that a policy sets, for an update mask.
pub(super) fn paths(policy: &RetryPolicy) -> Vec<&'static str> {
    let RetryPolicy { max_attempts, initial, multiplier, max, jitter, max_lost, max_snoozes } =
        policy;
    let fields = [
        ("retry.max_attempts", max_attempts.is_some()),
        ("retry.initial", initial.is_some()),
        ("retry.multiplier", multiplier.is_some()),
        ("retry.max", max.is_some()),
        ("retry.jitter", jitter.is_some()),
        ("retry.max_lost", max_lost.is_some()),
        ("retry.max_snoozes", max_snoozes.is_some()),
    ];
    fields.into_iter().filter(|(_, is_set)| *is_set).map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        retry: RetryArgs,
    }

    fn policy(flags: &[&str]) -> Option<RetryPolicy> {
        let line = ["rota"].iter().chain(flags);
        Cli::try_parse_from(line).expect("the flags are sound").retry.policy()
    }

    #[test]
    fn only_what_is_given_is_set() {
        assert_eq!(policy(&[]), None);
        let full = policy(&["--jitter", "--max-lost", "0"]).expect("something is set");
        assert_eq!((full.jitter(), full.max_lost), (Jitter::Full, Some(0)));
        assert_eq!(paths(&full), ["retry.jitter", "retry.max_lost"]);
        let none = policy(&["--no-jitter"]).expect("something is set");
        assert_eq!((none.jitter, paths(&none)), (Some(Jitter::None.into()), vec!["retry.jitter"]));
        assert!(Cli::try_parse_from(["rota", "--jitter", "--no-jitter"]).is_err());
    }

    #[test]
    fn all_flags_are_listed() {
        let command = Cli::command();
        let ids: Vec<_> = command.get_arguments().map(|flag| flag.get_id().as_str()).collect();
        assert_eq!(ids, FLAGS);
    }
}
