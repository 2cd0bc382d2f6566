//! What `make dist` makes, with the binary under test instead of a release: the scripts of `deploy/dist` install each
//! artefact into an empty place and run a first task there. The container image and the bill of materials are made
//! only by `make dist`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use rota_tests::process::{build_directory, rota};

/// Runs a script of `deploy/dist` on the binary under test.
fn run(script: &str, arguments: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let target = build_directory().parent().expect("a profile is in a directory").to_owned();
    let output = Command::new(root.join("deploy/dist").join(script))
        .args(arguments)
        .env("CARGO_TARGET_DIR", target)
        .env("DIST_PROFILE", "dev")
        .stdin(Stdio::null())
        .output()
        .expect("a script");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} {arguments:?}: {}\n{said}{errors}", output.status);
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id is on every system");
    output.stdout == b"0\n"
}

/// The archive and the package are made of the same staged files, so one test makes them.
#[test]
fn the_archive_and_the_debian_package_install_and_run_a_first_task() {
    assert!(rota().is_file());
    run("stage.sh", &[]);
    run("tarball.sh", &[]);
    run("test-tarball.sh", &[]);
    run("deb.sh", &[]);
    // The test of the package needs a root, which needs chroot.
    if is_root() {
        run("test-deb.sh", &["machine"]);
    }
}

#[test]
fn manifests_for_kubernetes_are_valid_and_match_the_chart() {
    run("manifests.sh", &["check"]);
}
