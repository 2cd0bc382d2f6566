//! The embedded backend: the obligations of every store, and what it promises beyond them about
//! its directory, crashes, damage and a full disk.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says so by a panic when it fails, and on stderr when it cannot run"
)]

mod conformance;
mod crash;
mod damage;
mod directory;
mod full_disk;
mod rig;
