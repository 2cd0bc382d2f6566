//! The cluster: its nodes, who leads, and the store that they share.

use maud::{Markup, html};
use rota_proto::v1::{
    Cluster, GetClusterRequest, GetServerInfoRequest, Node, NodeRole, ServerInfo, StoreLoss,
    StoreState, TransferLeadershipRequest,
};
use tonic::Response;

use super::{change::Change, confirm};
use crate::{
    flash,
    layout::{Shown, View},
    link,
    parts::{count, facts, name, plural, share, state, time, when},
    trouble::Trouble,
    visit::Visit,
};

/// Share of the store's bytes from which somebody should know of it, in hundredths.
const FULL: u64 = 80;

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let (mut one, mut other) = (visit.api.server(), visit.api.server());
    let (cluster, info) = tokio::join!(
        one.get_cluster(GetClusterRequest {}),
        other.get_server_info(GetServerInfoRequest {}),
    );
    let info = info.map(Response::into_inner).ok();
    Ok(View::new("Cluster", "cluster", page(&cluster?.into_inner(), info.as_ref())))
}

pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let to = visit.pairs.get("to").map(str::to_owned);
    if !visit.is_confirmed() {
        let question = question(to.as_deref());
        return Ok(confirm::ask(visit, "cluster", &question).into());
    }
    let request = TransferLeadershipRequest { to };
    visit.api.server().transfer_leadership(request).await?;
    Ok(Shown::See(link::to("cluster", [flash::pair("leader-transferred")])))
}

fn question(to: Option<&str>) -> String {
    let to = to.map_or_else(|| "another node".to_owned(), |to| format!("the node {to}"));
    format!(
        "Transfer the leadership to {to}? The leader completes earlier requests first. Running tasks continue, and \
         requests wait for a moment."
    )
}

fn page(cluster: &Cluster, info: Option<&ServerInfo>) -> Markup {
    let can_transfer = cluster.leader.is_some() && cluster.nodes.len() > 1;
    html! {
        div.head {
            h1 { "Cluster" }
            @if can_transfer {
                div.actions {
                    (Change {
                        page: "cluster",
                        label: "Transfer leadership",
                        question: Some(question(None)),
                        ..Change::default()
                    }.form())
                }
            }
        }
        div #cluster.card data-live="cluster" {
            (facts([
                ("Leader", Some(html! {
                    @match &cluster.leader {
                        Some(leader) => (name(leader)),
                        None => span.bad { "none: no task starts and no change is accepted" },
                    }
                })),
                ("Leadership", Some(html! { "number " (count(cluster.epoch)) })),
                ("Feature level", Some(html! { (count(cluster.feature_level)) })),
                ("Live tasks", info.map(|info| html! { (count(info.live_tasks)) })),
                ("Time zone rules", info.map(|info| html! { (info.time_zone_rules) })),
            ]))
        }
        section aria-labelledby="nodes-title" {
            h2 #nodes-title { "Nodes" }
            div #nodes data-live="cluster" { (nodes(cluster)) }
            @if cluster.nodes.len() < 2 {
                p.note {
                    "One node serves alone. Nodes with the same store form a cluster: see Operating in the documentation."
                }
            }
        }
        @if let Some(store) = &cluster.store {
            section aria-labelledby="store-title" {
                h2 #store-title { "Store" }
                div #store.card data-live="cluster" { (store_of(store)) }
            }
        }
        @if let Some(info) = info { (answering(info)) }
    }
}

fn nodes(cluster: &Cluster) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Node" }
                        th scope="col" { "Role" }
                        th scope="col" { "State" }
                        th.wide scope="col" { "Version" }
                        th.wide scope="col" { "Address" }
                        th.number.wide scope="col" { "Level" }
                        th.number.wide scope="col" { "Leadership" }
                        th.number.wide scope="col" { "Live tasks" }
                        th.number.wide scope="col" { "Lag" }
                        th scope="col" { span.sr { "Actions" } }
                    }
                }
                tbody { @for node in &cluster.nodes { (row(cluster, node)) } }
            }
        }
    }
}

fn row(cluster: &Cluster, node: &Node) -> Markup {
    html! {
        tr {
            td { strong { (name(&node.name)) } }
            td { (state(role(node.role()))) }
            td {
                @match &node.problem {
                    Some(problem) => span.why.error.whole { bdi { (problem) } },
                    None if node.ready => "ready",
                    None => span.bad { "not ready" },
                }
            }
            td.wide { bdi { (node.version.as_deref().unwrap_or("—")) } }
            td.wide {
                @match &node.address {
                    Some(address) => (name(address)),
                    None => span.none { "—" },
                }
            }
            td.number.wide { (count(node.feature_level)) }
            td.number.wide { (count(node.epoch)) }
            td.number.wide { (count(node.live_tasks)) }
            td.number.wide {
                @match lag(cluster, node) {
                    Some(lag) => (plural(lag, "revision", "revisions")),
                    None => span.none { "—" },
                }
            }
            td.number {
                @if node.role() == NodeRole::Follower && node.ready && cluster.leader.is_some() {
                    (Change {
                        page: "cluster",
                        fields: &[("to", &node.name)],
                        label: "Make leader",
                        question: Some(question(Some(&node.name))),
                        class: "small",
                        title: Some(format!("Make {} the leader", node.name)),
                    }.form())
                }
            }
        }
    }
}

const fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Leader => "leader",
        NodeRole::Follower => "follower",
        NodeRole::Unknown | NodeRole::Unspecified => "no leader",
        NodeRole::Unreachable => "unreachable",
    }
}

/// How many revisions of the store the copy of a follower is behind. None for a leader.
fn lag(cluster: &Cluster, node: &Node) -> Option<u64> {
    let store = cluster.store.as_ref()?;
    Some(store.revision.saturating_sub(node.revision?))
}

fn store_of(store: &StoreState) -> Markup {
    html! {
        @if let Some(problem) = &store.problem {
            p.bad.gap { "It accepts no commits or no new tasks: " bdi { (problem) } }
        }
        @if let Some(lost) = &store.lost {
            p.bad.gap { (loss(lost)) }
        }
        (facts([
            ("Kind", Some(html! { (store.backend) })),
            ("Location", (!store.location.is_empty()).then(|| name(&store.location))),
            ("Revision", Some(html! { (count(store.revision)) })),
            ("Size", store.bytes_used.map(|used| size(used, store.bytes_max))),
            ("Weakness", store.weakness.as_ref().map(|weakness| html! { bdi { (weakness) } })),
        ]))
    }
}

/// What the store has lost.
fn loss(lost: &StoreLoss) -> Markup {
    html! {
        "The store has lost "
        @match lost.batches {
            Some(batches) => {
                @if lost.maybe_more { "at least " }
                (plural(batches, "acknowledged batch of changes", "acknowledged batches of changes"))
            }
            None => "an unknown number of acknowledged batches of changes",
        }
        @if let Some(since) = lost.since { ", all after " (time(since)) }
        "."
    }
}

fn size(used: u64, most: Option<u64>) -> Markup {
    let Some(most) = most else { return html! { (bytes(used)) } };
    let percent = u128::from(used).saturating_mul(100).checked_div(most.into()).unwrap_or(100);
    html! {
        span class=[(percent >= FULL.into()).then_some("bad")] {
            (bytes(used)) " of " (bytes(most)) " (" (percent) " %)"
        }
        (share(used, most, "Space in use"))
    }
}

/// Bytes in the largest unit that gives at least two digits.
fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (1..UNITS.len()).rev().find(|unit| number >> (10 * unit) >= 10).unwrap_or(0);
    format!("{} {}", number >> (10 * unit), UNITS[unit])
}

/// The node that answers, and its limits.
fn answering(info: &ServerInfo) -> Markup {
    html! {
        section aria-labelledby="info-title" {
            h2 #info-title { "The node that answers" }
            div.card {
                (facts([
                    ("Name", Some(name(&info.node))),
                    ("Version", Some(html! { bdi { (info.version) } })),
                    ("Started", Some(when(info.started_at))),
                    ("Feature level", Some(html! { (count(info.feature_level)) })),
                    ("Problem", info.problem.as_ref().map(|problem| html! { span.bad { bdi { (problem) } } })),
                ]))
                @if !info.limits.is_empty() {
                    details {
                        summary.note { (plural(info.limits.len() as u64, "limit", "limits")) " in force" }
                        (facts(info.limits.iter().map(|(name, limit)| {
                            (name.as_str(), Some(html! { (count(*limit)) }))
                        })))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::TransferLeadershipResponse;

    use super::*;
    use crate::{fake::Fake, pages::act};

    const HOSTILE: &str = "n2\"><script>alert(1)</script>\u{202e}";

    fn cluster() -> Cluster {
        let node = |name: &str, role: NodeRole| Node {
            name: name.to_owned(),
            role: role.into(),
            ready: true,
            ..Node::default()
        };
        let follower = Node { revision: Some(990), ..node(HOSTILE, NodeRole::Follower) };
        let gone = Node {
            problem: Some("<b>no answer</b>\u{202e}".to_owned()),
            version: Some(HOSTILE.to_owned()),
            ready: false,
            ..node("n3", NodeRole::Unreachable)
        };
        let lost = StoreLoss { batches: Some(3), since: None, maybe_more: true };
        let store = StoreState {
            backend: "etcd".to_owned(),
            problem: Some(HOSTILE.to_owned()),
            weakness: Some(HOSTILE.to_owned()),
            revision: 1000,
            bytes_used: Some(2_000_000_000),
            bytes_max: Some(2_147_483_648),
            lost: Some(lost),
            ..StoreState::default()
        };
        Cluster {
            leader: Some("n1".to_owned()),
            epoch: u64::MAX,
            nodes: vec![node("n1", NodeRole::Leader), follower, gone],
            store: Some(store),
            feature_level: 3,
        }
    }

    #[test]
    fn nodes_and_the_store_say_what_is_wrong() {
        let info = ServerInfo {
            node: HOSTILE.to_owned(),
            version: HOSTILE.to_owned(),
            problem: Some(HOSTILE.to_owned()),
            ..ServerInfo::default()
        };
        let html = page(&cluster(), Some(&info)).into_string();
        assert!(!html.contains("<script") && !html.contains("<b>no"), "{html}");
        crate::apart::assert_apart(&html);
        for text in [
            "18,446,744,073,709,551,615",
            "10 revisions",
            "at least 3 acknowledged batches",
            "1907 MiB of 2048 MiB (93 %)",
            "&lt;b&gt;no answer",
        ] {
            assert!(html.contains(text), "{text} is missing in {html}");
        }
        assert_eq!(html.matches("Make leader").count(), 1, "only a node that can lead: {html}");
    }

    #[test]
    fn a_cluster_without_a_leader_transfers_nothing() {
        let html = page(&Cluster { leader: None, ..cluster() }, None).into_string();
        assert!(html.contains("no task starts") && !html.contains("<form"), "{html}");
    }

    #[tokio::test]
    async fn a_transfer_is_asked_for_and_then_made() {
        let answer = TransferLeadershipResponse { to: HOSTILE.to_owned() };
        let fake = Fake::default().with("TransferLeadership", &answer);
        let asked = act(&fake.form("cluster", &[("to", HOSTILE)])).await;
        let Ok(Shown::Page(view)) = asked else { panic!("not asked") };
        assert!(!view.body.into_string().contains("<script"));
        assert_eq!(fake.methods(), [""; 0]);
        for to in [Some(HOSTILE), None] {
            let pairs = [("confirmed", "yes"), ("to", to.unwrap_or_default())];
            let done = act(&fake.form("cluster", &pairs)).await.expect("a change");
            assert!(matches!(done, Shown::See(link) if link.starts_with("cluster?flash=")));
        }
        let calls: Vec<TransferLeadershipRequest> = fake.calls("TransferLeadership");
        let calls: Vec<_> = calls.iter().map(|call| call.to.as_deref()).collect();
        assert_eq!(calls, [Some(HOSTILE), None]);
    }
}
