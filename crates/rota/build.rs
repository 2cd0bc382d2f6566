//! The version that `rota --version` prints: the version of the package, the commit, and the build.
//!
//! - `ROTA_BUILD_COMMIT` and `ROTA_BUILD_DATE` name the commit and the date, for builds of releases.
//! - Without `ROTA_BUILD_COMMIT`, an optimised build reads the commit from `.git`, if there is one: sources from
//!   an archive have none. It needs no `git`.
//! - A development build does not look at the commit. Otherwise every commit would compile the program again.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The length of a shortened commit.
const SHORT: usize = 12;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=ROTA_BUILD_COMMIT");
    println!("cargo:rerun-if-env-changed=ROTA_BUILD_DATE");
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let optimised = set("PROFILE").is_some_and(|profile| profile == "release");
    let mut told = Vec::new();
    let commit = set("ROTA_BUILD_COMMIT").or_else(|| optimised.then(commit).flatten());
    match commit {
        Some(commit) => told.push(format!("commit {}", short(&commit))),
        None if optimised => told.push("commit unknown".to_owned()),
        None => {}
    }
    if let Some(date) = set("ROTA_BUILD_DATE") {
        told.push(date);
    }
    told.push(format!("{} build", profile().as_deref().unwrap_or("unknown")));
    let version = set("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo:rustc-env=ROTA_VERSION={version} ({})", told.join(", "));
}

/// The profile: the directory of the build output. `PROFILE` has only `debug` and `release`.
fn profile() -> Option<String> {
    let out = PathBuf::from(env::var_os("OUT_DIR")?);
    let is_build = |dir: &&Path| dir.file_name().is_some_and(|name| name == "build");
    let build = out.ancestors().find(is_build)?;
    Some(build.parent()?.file_name()?.to_str()?.to_owned())
}

/// A commit of 12 digits. What follows the digits (`-dirty`) stays.
fn short(commit: &str) -> String {
    let digits = commit.chars().take_while(char::is_ascii_hexdigit).count();
    format!("{}{}", &commit[..digits.min(SHORT)], &commit[digits..])
}

/// The commit that is checked out. Cargo runs this program again when it changes.
fn commit() -> Option<String> {
    let sources = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let git = sources.ancestors().map(|dir| dir.join(".git")).find(|git| git.exists())?;
    let dir = if git.is_dir() {
        git
    } else {
        // A linked worktree or a submodule.
        let text = fs::read_to_string(&git).ok()?;
        git.parent()?.join(text.strip_prefix("gitdir:")?.trim())
    };
    let common = match fs::read_to_string(dir.join("commondir")) {
        Ok(text) => dir.join(text.trim()),
        Err(_) => dir.clone(),
    };
    let head = read(&dir.join("HEAD"))?;
    let Some(branch) = head.strip_prefix("ref:").map(str::trim) else {
        return Some(head);
    };
    if let Some(commit) = read(&common.join(branch)) {
        return Some(commit);
    }
    let packed = read(&common.join("packed-refs"))?;
    let found = packed.lines().find_map(|line| line.strip_suffix(branch)?.strip_suffix(' '));
    found.map(str::to_owned)
}

/// A file of git. Cargo runs this program again when it changes. A file that does not exist is not watched, because
/// Cargo would then run this program each time.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}
