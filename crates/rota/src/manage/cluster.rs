//! `rota cluster`.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client,
    v1::{self, Cluster, Node, NodeRole, StoreLoss},
};

use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
    text,
};

/// Without a subcommand: shows the nodes, the leader and the store.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    verb: Option<ClusterVerb>,
}

/// Commands for the cluster.
#[derive(Debug, Subcommand)]
enum ClusterVerb {
    /// Transfer leadership to another node.
    Transfer {
        /// Name of the node that is to lead [default: any other node].
        #[arg(long, value_name = "NODE", value_parser = Text::new())]
        to: Option<String>,
    },
}

/// Runs the command.
pub(crate) async fn run(args: ClusterArgs, client: &Client, format: Format) -> Result<(), Failure> {
    match args.verb {
        None => {
            let cluster = client.get_cluster(v1::GetClusterRequest {}).await?;
            if format.is_data() {
                return output::data(&cluster, format);
            }
            let (about, nodes) = tables(&cluster);
            about.print()?;
            output::text(&warnings_of(&cluster))?;
            output::line("")?;
            nodes.print()
        }
        Some(ClusterVerb::Transfer { to }) => {
            let request = v1::TransferLeadershipRequest { to };
            let answer = client.transfer_leadership(request).await?;
            if format.is_data() {
                return output::data(&answer, format);
            }
            output::line(&format!("leadership is transferred to {}", text::line(&answer.to)))
        }
    }
}

/// What the cluster is, and its nodes.
fn tables(cluster: &Cluster) -> (Table, Table) {
    let mut about = Table::new([
        Column::new("LEADER").keep(),
        Column::new("EPOCH").rank(3),
        Column::new("LEVEL").rank(4),
        Column::new("STORE").rank(2).middle(),
        Column::new("REVISION").rank(5),
        Column::new("SIZE"),
        Column::new("STATE").state().end(),
    ]);
    let store = cluster.store.clone().unwrap_or_default();
    about.row([
        cluster.leader.clone().unwrap_or_else(|| "none".to_owned()),
        cluster.epoch.to_string(),
        cluster.feature_level.to_string(),
        format!("{} {}", store.backend, store.location),
        store.revision.to_string(),
        size(store.bytes_used, store.bytes_max),
        store.problem.clone().unwrap_or_else(|| "ok".to_owned()),
    ]);
    let mut nodes = Table::new([
        Column::new("NODE").keep(),
        Column::new("ROLE").state(),
        Column::new("STATE").state().end(),
        Column::new("EPOCH").rank(4),
        Column::new("LIVE").rank(3),
        Column::new("LAG"),
        Column::new("ADDRESS").rank(2).middle(),
    ]);
    for node in &cluster.nodes {
        nodes.row([
            node.name.clone(),
            role(node.role()).to_owned(),
            state(node),
            node.epoch.to_string(),
            node.live_tasks.to_string(),
            lag(cluster, node).map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
            node.address.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    (about, nodes)
}

fn warnings_of(cluster: &Cluster) -> String {
    let store = cluster.store.clone().unwrap_or_default();
    warnings(store.lost, store.weakness.as_deref())
}

/// What the store has lost, and what it does not promise. A line for each.
pub(crate) fn warnings(lost: Option<StoreLoss>, weakness: Option<&str>) -> String {
    let lost = lost.map(|lost| {
        let count = match lost.batches {
            Some(count) if lost.maybe_more => format!("at least {count}"),
            Some(count) => count.to_string(),
            None => "an unknown number of".to_owned(),
        };
        let since = lost.since.map(|since| format!(", all after {since}")).unwrap_or_default();
        format!("The store has lost {count} acknowledged batches of changes{since}.")
    });
    let weakness = weakness.map(|weakness| format!("The store is weak: {weakness}"));
    let lines = lost.into_iter().chain(weakness);
    lines.map(|told| format!("warning: {}\n", text::line(&told))).collect()
}

/// The text for a role.
pub(crate) fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Leader => "leader",
        NodeRole::Follower => "follower",
        NodeRole::Unknown | NodeRole::Unspecified => "no leader",
        NodeRole::Unreachable => "unreachable",
    }
}

/// Whether a node is ready, or its problem.
pub(crate) fn state(node: &Node) -> String {
    match &node.problem {
        Some(problem) => problem.clone(),
        None if node.ready => "ready".to_owned(),
        None => "not ready".to_owned(),
    }
}

/// How many revisions of the store the node's copy of the live tasks is behind. None for a leader.
pub(crate) fn lag(cluster: &Cluster, node: &Node) -> Option<u64> {
    let store = cluster.store.as_ref()?;
    Some(store.revision.saturating_sub(node.revision?))
}

/// Bytes used of the bytes allowed.
pub(crate) fn size(used: Option<u64>, max: Option<u64>) -> String {
    match (used, max) {
        (None, _) => "-".to_owned(),
        (Some(used), None) => bytes(used),
        (Some(used), Some(max)) => format!("{} of {}", bytes(used), bytes(max)),
    }
}

/// Bytes in the largest unit that gives at least two digits.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (1..UNITS.len()).rev().find(|unit| count >> (10 * unit) >= 10).unwrap_or(0);
    format!("{} {}", count >> (10 * unit), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_shows_who_leads_and_who_lags() {
        let cluster = serde_json::json!({
            "leader": "n1", "epoch": 7, "feature_level": 1,
            "nodes": [
                { "name": "n1", "address": "http://10.0.0.1:7420", "role": "leader", "ready": true,
                  "epoch": 7, "live_tasks": 120 },
                { "name": "n2", "address": "http://10.0.0.2:7420", "role": "follower", "ready": true,
                  "epoch": 7, "live_tasks": 118, "revision": 990 },
                { "name": "n3\u{1b}[2J", "role": "unreachable", "ready": false,
                  "problem": "it cannot be reached" },
            ],
            "store": { "backend": "etcd", "location": "e1:2379,e2:2379", "revision": 1000,
                       "bytes_used": 52_428_800, "bytes_max": 2_147_483_648_u64 },
        });
        let cluster = serde_json::from_value(cluster).unwrap();
        let (about, nodes) = tables(&cluster);
        let told = format!("{}{}\n{}", about.text(), warnings_of(&cluster), nodes.text());
        insta::assert_snapshot!(told);
    }

    #[test]
    fn what_a_store_has_lost_is_told() {
        let lost = serde_json::json!({ "batches": 3, "since": "2026-11-27T03:00:00Z" });
        let lost: StoreLoss = serde_json::from_value(lost).unwrap();
        assert_eq!(
            warnings(Some(lost), Some("it may lose writes")),
            "warning: The store has lost 3 acknowledged batches of changes, all after 2026-11-27T03:00:00.000Z.\n\
             warning: The store is weak: it may lose writes\n"
        );
        let told = warnings(Some(StoreLoss { maybe_more: true, ..lost }), None);
        assert!(told.contains("at least 3 acknowledged batches"), "{told}");
        let told = warnings(Some(StoreLoss::default()), None);
        assert!(told.contains("an unknown number of acknowledged batches"), "{told}");
        assert_eq!(warnings(None, None), "");
    }

    #[test]
    fn sizes_have_two_digits_at_least() {
        for (count, shown) in [
            (0, "0 B"),
            (10_239, "10239 B"),
            (10_240, "10 KiB"),
            (52_428_800, "50 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }
}
