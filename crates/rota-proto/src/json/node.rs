//! What concerns one node and not the cluster.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::node_v1;

/// What a node logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogFilter {
    /// The node that answers.
    pub node: String,
    /// A level, levels by module, or both.
    #[schema(example = "info,rota_engine=debug")]
    pub filter: String,
}

/// What a node is to log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFilterRequest {
    /// As in the configuration: a level, levels by module, or both. At most 1024 bytes.
    #[schema(example = "info,rota_engine=debug", min_length = 1, max_length = 1024)]
    pub filter: String,
}

impl From<node_v1::LogFilter> for LogFilter {
    fn from(filter: node_v1::LogFilter) -> Self {
        Self { node: filter.node, filter: filter.filter }
    }
}
