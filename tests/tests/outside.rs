//! A program of a user, in a crate outside the workspace: it builds against the client and the worker as they are
//! published, and runs a typed job.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rota_tests::process::{PATIENCE, Server, build_directory};

/// The crate.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("outside")
}

/// Builds the crate with the versions of the workspace's lock file, so that nothing new is downloaded. It shares the
/// build output with the workspace.
fn build() -> PathBuf {
    let sources = sources();
    let lock = sources.join("Cargo.lock");
    fs::copy(sources.join("../../Cargo.lock"), &lock).expect("the lock file of the workspace");
    let target = build_directory().parent().expect("a profile is in a directory").to_owned();
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).arg("--manifest-path").arg(sources.join("Cargo.toml"));
        command.env("CARGO_TARGET_DIR", &target).output().expect("cargo can be started")
    };
    // A machine on which the workspace was built has all sources already.
    let mut built = cargo(&["build", "--offline"]);
    if !built.status.success() {
        built = cargo(&["build"]);
    }
    succeeded(&built);
    let tree = cargo(&["tree", "--offline", "--edges", "normal,build"]);
    succeeded(&tree);
    fs::remove_file(lock).expect("it was copied");
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    // rustls is not among them: addresses with https:// work without further choices.
    for heavy in ["reqwest", "opentelemetry", "prometheus-client", "nix", "axum", "utoipa"] {
        assert!(!tree.contains(&format!("{heavy} v")), "a worker with one handler needs {heavy}");
    }
    target.join("debug/outside")
}

fn succeeded(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[tokio::test]
async fn a_program_of_a_user_builds_and_runs_a_typed_job() {
    let program = tokio::task::spawn_blocking(build).await.expect("it builds");
    let server = Server::start(&[]).await;
    server.ready().await;
    let mut program = tokio::process::Command::new(program);
    let running = program.arg(server.url()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("it runs");
    succeeded(&output);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(told, "attempt 1\nattempt 2\nhello, Ada (2)\n");
}
