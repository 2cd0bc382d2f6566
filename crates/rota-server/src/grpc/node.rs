//! `NodeService`: what this node answers itself, whoever leads.

use rota_proto::node_v1::{self, node_service_server::NodeService};
use tonic::{Request, Response, Status};

use crate::services::Services;
use crate::{
    failure::{Failure, Reason},
    log::{FILTER_BYTES_MAX, LogControl},
};

impl Services {
    fn log_control(&self) -> Result<&dyn LogControl, Failure> {
        self.log
            .as_deref()
            .ok_or_else(|| Failure::new(Reason::NotFound, "this node's log is not its own"))
    }

    /// What this node logs.
    pub(crate) fn log_filter(&self) -> Result<node_v1::LogFilter, Failure> {
        let filter = self.log_control()?.filter();
        Ok(node_v1::LogFilter { node: self.engine.info().node, filter })
    }

    /// What this node is to log.
    pub(crate) fn set_log_filter(&self, filter: &str) -> Result<node_v1::LogFilter, Failure> {
        if filter.trim().is_empty() || filter.len() > FILTER_BYTES_MAX {
            let wrong = format!("must have 1 to {FILTER_BYTES_MAX} bytes");
            return Err(Failure::field("filter", wrong));
        }
        let log = self.log_control()?;
        let before = log.filter();
        log.set_filter(filter).map_err(|wrong| Failure::field("filter", wrong.to_string()))?;
        tracing::warn!(before, now = filter, "a client changed what is logged");
        self.log_filter()
    }
}

#[tonic::async_trait]
impl NodeService for Services {
    async fn get_log_filter(
        &self,
        _: Request<node_v1::GetLogFilterRequest>,
    ) -> Result<Response<node_v1::LogFilter>, Status> {
        Ok(Response::new(self.log_filter()?))
    }

    async fn set_log_filter(
        &self,
        request: Request<node_v1::SetLogFilterRequest>,
    ) -> Result<Response<node_v1::LogFilter>, Status> {
        let changed = Self::set_log_filter(self, &request.into_inner().filter)?;
        Ok(Response::new(changed))
    }
}
