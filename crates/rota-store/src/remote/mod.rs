//! Parts that backends on other machines share: elections, background work and the thread on which no load delays it,
//! pauses between attempts, and moments that count suspension.

pub(crate) mod background;
pub(crate) mod backoff;
pub(crate) mod election;
pub(crate) mod moment;
