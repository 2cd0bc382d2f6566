//! The simulated store: one central state, and a handle for each process that uses it.
//!
//! [`Central`] keeps the law of [`Store`](rota_store::Store): it holds every version of every key, refuses what the law
//! says is to be refused, elects leaders by leases in simulated time, and misbehaves as far as the law
//! allows when the plan of faults says so. [`SimStore`] is what an engine is given: it turns calls into
//! messages to the central state and back, with delays, losses and deadlines on the way.

mod central;
mod election;
mod handle;
mod leadership;
mod reads;

pub(crate) use self::{
    central::{Central, StoreLimits},
    election::{depose, tell_observers},
    handle::{SimStore, tell_watchers},
};
