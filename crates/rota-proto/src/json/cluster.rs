//! The nodes of a cluster.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{schema, task::text};
use crate::v1;

/// The nodes, who leads them, and the store that they share.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// The leading node, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The leadership's number.
    pub epoch: u64,
    /// All nodes that are there, by name.
    pub nodes: Vec<Node>,
    /// The store.
    pub store: StoreState,
    /// The feature level that its nodes may use. The leader raises it when all nodes know it.
    #[serde(default)]
    pub feature_level: u32,
}

/// A node.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where other nodes reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it does.
    pub role: NodeRole,
    /// Whether it serves.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The newest leadership that it knows of.
    #[serde(default)]
    pub epoch: u64,
    /// Live tasks that it holds, or has a copy of.
    #[serde(default)]
    pub live_tasks: u64,
    /// The revision of the store up to which its copy follows; absent for the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The feature level that it knows; 0 for a version from before there were levels.
    #[serde(default)]
    pub feature_level: u32,
}

/// What a node does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// It decides.
    Leader,
    /// It forwards to the leader, and stands by.
    Follower,
    /// It did not answer.
    #[default]
    Unreachable,
    /// It knows of no leader; or it does what this version has no word for.
    #[serde(other)]
    Unknown,
}

/// How a store is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StoreState {
    /// Its sort.
    pub backend: String,
    /// Where it is.
    pub location: String,
    /// The revision of its last commit, as the asked node knows it.
    pub revision: u64,
    /// Bytes used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_used: Option<u64>,
    /// Bytes it may grow to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// Why it takes no commits, or no new work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Leadership is to be handed over.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// To which node; default: any other.
    #[schema(schema_with = schema::some_name)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Leadership is being handed over.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TransferResponse {
    /// To this node.
    pub to: String,
}

impl From<v1::Cluster> for Cluster {
    fn from(cluster: v1::Cluster) -> Self {
        let store = cluster.store.unwrap_or_default();
        Self {
            leader: text(cluster.leader),
            epoch: cluster.epoch,
            nodes: cluster.nodes.into_iter().map(Into::into).collect(),
            store: StoreState {
                backend: store.backend,
                location: store.location,
                revision: store.revision,
                bytes_used: store.bytes_used,
                bytes_max: store.bytes_max,
                problem: text(store.problem),
            },
            feature_level: cluster.feature_level,
        }
    }
}

impl From<v1::Node> for Node {
    fn from(node: v1::Node) -> Self {
        let role = match node.role() {
            v1::NodeRole::Leader => NodeRole::Leader,
            v1::NodeRole::Follower => NodeRole::Follower,
            v1::NodeRole::Unreachable => NodeRole::Unreachable,
            v1::NodeRole::Unspecified | v1::NodeRole::Unknown => NodeRole::Unknown,
        };
        Self {
            role,
            name: node.name,
            address: text(node.address),
            ready: node.ready,
            problem: text(node.problem),
            version: text(node.version),
            epoch: node.epoch,
            live_tasks: node.live_tasks,
            revision: node.revision,
            feature_level: node.feature_level,
        }
    }
}

impl From<Node> for v1::Node {
    fn from(node: Node) -> Self {
        let role = match node.role {
            NodeRole::Leader => v1::NodeRole::Leader,
            NodeRole::Follower => v1::NodeRole::Follower,
            NodeRole::Unknown => v1::NodeRole::Unknown,
            NodeRole::Unreachable => v1::NodeRole::Unreachable,
        };
        Self {
            role: role.into(),
            name: node.name,
            address: node.address.unwrap_or_default(),
            ready: node.ready,
            problem: node.problem.unwrap_or_default(),
            version: node.version.unwrap_or_default(),
            epoch: node.epoch,
            live_tasks: node.live_tasks,
            revision: node.revision,
            feature_level: node.feature_level,
        }
    }
}

impl From<v1::TransferLeadershipResponse> for TransferResponse {
    fn from(response: v1::TransferLeadershipResponse) -> Self {
        Self { to: response.to }
    }
}
