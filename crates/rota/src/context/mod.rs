//! `rota context`: several clusters by name, in a file of the user. A context has the client's settings, such as the URL
//! and the file of the token. It never has a secret itself.

pub(crate) mod file;
mod verbs;

pub(crate) use verbs::{ContextVerb, run};
