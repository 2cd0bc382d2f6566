//! `rota dev`: its banner, and what its worker is allowed to do.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::shell::{Server, rota};

/// The words of a line in the banner, in which nothing is quoted.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn the_line_of_the_banner_runs_a_first_task() {
    for (args, result) in [(&["--allow-command"][..], "hello"), (&[][..], "200")] {
        let dir = tempfile::tempdir().unwrap();
        let mut dev = rota(dir.path())
            .args(["dev", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut shown = BufReader::new(dev.stdout.take().unwrap());
        let line = loop {
            let mut line = String::new();
            assert!(shown.read_line(&mut line).unwrap() > 0, "the server ended");
            assert!(!line.contains('\x1b'), "{line:?}: this is not a terminal");
            if line.contains("task create") {
                break line;
            }
        };
        let words = words(&line);
        let mut first = Command::new(words[0]);
        let output = first.args(&words[1..]).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        dev.kill().unwrap();
        dev.wait().unwrap();
        assert!(output.status.success() && said.contains(result), "{line}{said}{output:?}");
    }
}

#[test]
fn http_tasks_reach_this_machine_and_no_private_network() {
    let server = Server::start().ready();
    let shell = server.shell();
    let url = format!("{}/healthz", server.url());
    let (code, stdout, stderr) = shell.run(&["task", "create", "--wait", "--http", &url], "", &[]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let private = ["task", "create", "--wait", "--http", "http://10.0.0.1/"];
    let (code, stdout, stderr) = shell.run(&private, "", &[]);
    assert_ne!(code, 0, "{stdout}{stderr}");
    let said = format!("{stdout}{stderr}");
    assert!(said.contains("--http-allow-private"), "{said}");
}
