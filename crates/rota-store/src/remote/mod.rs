//! Parts that backends on other machines share: elections, pauses between attempts, moments that count suspension,
//! and the thread on which no load delays leadership.

pub(crate) mod backoff;
pub(crate) mod election;
pub(crate) mod moment;
pub(crate) mod thread;
