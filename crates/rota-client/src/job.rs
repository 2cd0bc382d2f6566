//! The contract between the program that submits a job and the worker that runs it.

use serde::{Serialize, de::DeserializeOwned};

/// A kind of task with its parameters and its result.
///
/// The value itself is the payload, as JSON. Put the type into a crate that the submitting program and the
/// worker share: then both agree on the kind, the parameters and the result.
///
/// ```
/// use rota_client::Job;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendMail {
///     to: String,
///     subject: String,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Receipt {
///     message_id: String,
/// }
///
/// impl Job for SendMail {
///     const KIND: &'static str = "send-mail";
///     type Output = Receipt;
/// }
/// ```
///
/// Tasks live longer than one version of a program: give new fields `#[serde(default)]`, and use another kind
/// for parameters that old workers cannot read.
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// Kind of the task: the name that connects it to its handler.
    const KIND: &'static str;

    /// Result of the task. `()` for none.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}
