//! The binary of an older version, built from the repository's history. `tests/upgrade/commits` names the
//! commits. A build takes minutes, so it is kept in `target/upgrade/<commit>`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::process::build_directory;

/// What an older version is needed for, as `tests/upgrade/commits` calls it.
#[derive(Debug, Clone, Copy)]
pub enum Use {
    /// The version that clusters in use have.
    UpgradeFrom,
    /// The oldest version that a cluster of this one can go back to.
    DowngradeTo,
}

/// The older binary; builds it if need be. `None`, with a message: the history is not here.
///
/// # Panics
/// When it cannot be built, or the history is here and does not have the commit.
#[must_use]
#[expect(clippy::print_stderr, reason = "what was not tested belongs to the report of a run")]
pub fn older(purpose: Use) -> Option<PathBuf> {
    let commit = commit(purpose);
    let target = build_directory().parent().expect("a profile is in a directory").to_owned();
    let home = target.join("upgrade").join(&commit);
    fs::create_dir_all(&home).expect("a directory");
    // Another test may want it at the same time.
    let lock = File::create(home.join("lock")).expect("a file");
    lock.lock().expect("a lock");
    let rota = home.join("rota");
    if rota.is_file() {
        return Some(rota);
    }
    if !has_history(&commit) {
        eprintln!(
            "SKIPPED: the history of the repository is not here, so {commit} cannot be built"
        );
        return None;
    }
    eprintln!("building {commit}, which takes some minutes");
    build(&commit, &home);
    fs::copy(home.join("target/debug/rota"), home.join("rota.new")).expect("it was built");
    fs::rename(home.join("rota.new"), &rota).expect("in the same directory");
    for part in ["source", "target"] {
        fs::remove_dir_all(home.join(part)).expect("it is ours");
    }
    Some(rota)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the repository")
}

fn commit(purpose: Use) -> String {
    let name = match purpose {
        Use::UpgradeFrom => "upgrade-from ",
        Use::DowngradeTo => "downgrade-to ",
    };
    let file = repository().join("tests/upgrade/commits");
    let text = fs::read_to_string(&file).expect("the list of commits");
    let commit = text.lines().find_map(|line| line.strip_prefix(name));
    commit.unwrap_or_else(|| panic!("{} names no {name}", file.display())).trim().to_owned()
}

fn git(arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(repository()).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    git
}

/// Whether the commit is here. Without any history, or with a part of it, it need not be.
fn has_history(commit: &str) -> bool {
    let object = format!("{commit}^{{commit}}");
    let found = git(&["cat-file", "-e", &object]).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    let shallow = git(&["rev-parse", "--is-shallow-repository"]).output();
    let whole = shallow.is_ok_and(|said| said.stdout.starts_with(b"false"));
    assert!(!whole, "tests/upgrade/commits names {commit}, which is not in the history");
    false
}

fn build(commit: &str, home: &Path) {
    let archive = home.join("source.tar");
    let (source, target) = (home.join("source"), home.join("target"));
    fs::create_dir_all(&source).expect("a directory");
    run(git(&["archive", "--output"]).arg(&archive).arg(commit));
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source));
    fs::remove_file(&archive).expect("it is ours");
    share_dependencies(&target.join("debug"));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut build = Command::new(cargo);
    build.args(["build", "--package", "rota", "--locked", "--target-dir"]).arg(&target);
    run(build.current_dir(&source).stdin(Stdio::null()));
}

/// Cargo takes what was already built of the same dependencies; the rest it builds.
fn share_dependencies(profile: &Path) {
    let own = build_directory();
    if !own.ends_with("debug") {
        return;
    }
    fs::create_dir_all(profile).expect("a directory");
    for part in ["deps", "build", ".fingerprint"] {
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(own.join(part)).arg(profile));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
