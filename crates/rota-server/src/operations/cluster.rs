//! Operations on the server and its cluster. The node that answers asks all others for their state.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Limited};
use rota_engine::{Member, Role};
use rota_proto::v1;

use super::Caller;
use crate::{failure::Failure, services::Services, validate, wire};

/// Timeout for the state of another node.
const ANSWER: Duration = Duration::from_secs(1);
/// Maximum bytes of a node's state.
const ANSWER_BYTES: usize = 64 << 10;

impl Services {
    /// Gets the version, leader, store and limits of the server.
    pub(crate) async fn get_server_info(
        &self,
        _: Caller,
        _: v1::GetServerInfoRequest,
    ) -> Result<v1::ServerInfo, Failure> {
        let store = self.engine.store_status().await;
        let health = self.health();
        let lost = self.engine.store_lost();
        Ok(wire::info(self.engine.info(), store, lost.as_ref(), &health, &self.limits))
    }

    /// Gets the state of this node.
    pub(crate) async fn get_node(
        &self,
        _: Caller,
        _: v1::GetNodeRequest,
    ) -> Result<v1::Node, Failure> {
        Ok(self.this_node())
    }

    fn this_node(&self) -> v1::Node {
        let (info, health) = (self.engine.info(), self.health());
        let role = match info.role {
            Role::Leader => v1::NodeRole::Leader,
            Role::Follower(_) => v1::NodeRole::Follower,
            Role::Unknown => v1::NodeRole::Unknown,
        };
        v1::Node {
            name: info.node,
            address: self.engine.address().map(ToOwned::to_owned),
            role: role.into(),
            ready: health.is_ready(),
            problem: wire::problem(&health),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            epoch: info.epoch,
            live_tasks: info.live_tasks,
            feature_level: info.feature_level,
            revision: (role != v1::NodeRole::Leader).then_some(info.revision),
            lost: self.engine.store_lost().as_ref().map(wire::loss),
        }
    }

    /// Gets all nodes. Uses the credentials of the caller for requests to other nodes.
    pub(crate) async fn get_cluster(
        &self,
        caller: Caller,
        _: v1::GetClusterRequest,
    ) -> Result<v1::Cluster, Failure> {
        let view = self.engine.cluster().await;
        let this = self.this_node();
        let nodes = view.members.iter().map(async |member| {
            if member.name == this.name {
                this.clone()
            } else {
                self.ask(member, caller.authorization.as_ref()).await
            }
        });
        let mut nodes = futures_util::future::join_all(nodes).await;
        if !nodes.iter().any(|node| node.name == this.name) {
            // The store does not know this node yet, so it is added here.
            nodes.push(this);
        }
        let (leader, epoch) = match view.leader {
            Some(seat) => (Some(seat.member.name), seat.epoch.0),
            None => (None, self.engine.info().epoch),
        };
        let losses = nodes.iter().filter_map(|node| node.lost);
        let store = v1::StoreState {
            backend: view.store.backend.to_owned(),
            location: view.store.location,
            revision: view.store.revision.0,
            bytes_used: view.store.bytes_used,
            bytes_max: view.store.bytes_max,
            problem: view.store.problem.or(view.store.pressure),
            weakness: view.store.weakness,
            // A node that was there knows more than one that came later.
            lost: losses.max_by_key(|lost| lost.batches),
        };
        let feature_level = self.engine.info().cluster_feature_level;
        Ok(v1::Cluster { leader, epoch, nodes, store: Some(store), feature_level })
    }

    async fn ask(&self, member: &Member, authorization: Option<&HeaderValue>) -> v1::Node {
        let silent = |problem: &str| v1::Node {
            name: member.name.clone(),
            address: member.address.clone(),
            role: v1::NodeRole::Unreachable.into(),
            problem: Some(problem.to_owned()),
            ..v1::Node::default()
        };
        let (Some(peers), Some(address)) = (&self.peers, &member.address) else {
            return silent("the node has no address for other nodes");
        };
        let mut request = Request::get("/v1/node");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Body::empty()).expect("a request of constant parts");
        let answer = async {
            let answer = peers.ask(address, request, ANSWER).await?;
            let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.ok()?;
            serde_json::from_slice::<v1::Node>(&body.to_bytes()).ok()
        };
        match tokio::time::timeout(ANSWER, answer).await {
            // The store has the authoritative name.
            Ok(Some(node)) => v1::Node { name: member.name.clone(), ..node },
            Ok(None) => silent("the node is unreachable"),
            Err(_) => silent("the node did not answer within 1 s"),
        }
    }

    /// Transfers leadership to another node.
    pub(crate) async fn transfer_leadership(
        &self,
        _: Caller,
        request: v1::TransferLeadershipRequest,
    ) -> Result<v1::TransferLeadershipResponse, Failure> {
        let to = match request.to() {
            "" => None,
            name => Some(validate::name("to", name)?),
        };
        let to = self.engine.transfer(to.as_ref().map(rota_core::Name::as_str)).await?;
        Ok(v1::TransferLeadershipResponse { to })
    }
}
