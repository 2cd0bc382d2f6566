//! Operations on the node that receives the request.

use rota_proto::node_v1;

use super::Caller;
use crate::{
    failure::{Failure, Reason},
    log::{FILTER_BYTES_MAX, LogControl},
    services::Services,
};

impl Services {
    /// Gets the log filter.
    pub(crate) async fn get_log_filter(
        &self,
        _: Caller,
        _: node_v1::GetLogFilterRequest,
    ) -> Result<node_v1::LogFilter, Failure> {
        self.log_filter()
    }

    /// Sets the log filter.
    pub(crate) async fn set_log_filter(
        &self,
        _: Caller,
        request: node_v1::SetLogFilterRequest,
    ) -> Result<node_v1::LogFilter, Failure> {
        let filter = request.filter.as_str();
        if filter.trim().is_empty() || filter.len() > FILTER_BYTES_MAX {
            let wrong = format!("must have 1 to {FILTER_BYTES_MAX} bytes");
            return Err(Failure::field("filter", wrong));
        }
        let log = self.log_control()?;
        let before = log.filter();
        log.set_filter(filter).map_err(|wrong| Failure::field("filter", wrong.to_string()))?;
        tracing::warn!(before, now = filter, "log filter changed by a client");
        self.log_filter()
    }

    fn log_filter(&self) -> Result<node_v1::LogFilter, Failure> {
        let filter = self.log_control()?.filter();
        Ok(node_v1::LogFilter { node: self.engine.info().node, filter })
    }

    fn log_control(&self) -> Result<&dyn LogControl, Failure> {
        self.log.as_deref().ok_or_else(|| {
            Failure::new(Reason::NotFound, "this node's log filter cannot be changed here")
        })
    }
}
