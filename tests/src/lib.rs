//! What the tests of real processes share: the `rota` binary as a process that can be killed and
//! started again ([`process`]), and the judge of what it did ([`audit`]).
//!
//! These tests look from outside, as a user does: they know the API and the command line, and
//! nothing of the inside. They need the binary beside them; `make test` sees to that.

pub mod audit;
pub mod process;
