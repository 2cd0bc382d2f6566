//! `rota man`: the manual pages, made from the definition of the command line.

use std::{fs, path::Path};

use crate::exit::Failure;

/// Writes a page for each command into the directory.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(command: clap::Command, dir: &Path) -> Result<(), Failure> {
    let failed =
        |error| Failure::failed(format!("cannot write manual pages to {}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(failed)?;
    // The short version: a page holds for every build.
    let command = command.version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command, dir).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().expect("a directory");
        write(crate::command(), dir.path()).expect("pages");
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("a page");
        assert!(read("rota.1").contains("rota 0."), "the page has a version");
        assert!(read("rota-dev.1").contains("allow\\-command"), "flags of settings are there");
        assert!(
            read("rota-task-create.1").contains("EXIT") || !read("rota-task-create.1").is_empty()
        );
    }
}
