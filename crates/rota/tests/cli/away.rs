//! Commands that go on while the only server is away for a while.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Stdio},
};

use crate::shell::{Server, rota};

fn start(server: &Server, args: &[&str]) -> Child {
    rota(server.dir())
        .env("ROTA_URL", server.url())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until it says something with that word on standard error.
fn until_said(errors: &mut impl BufRead, word: &str) {
    loop {
        let mut line = String::new();
        assert!(errors.read_line(&mut line).unwrap() > 0, "it ended before it said {word:?}");
        if line.contains(word) {
            return;
        }
    }
}

fn ended(mut child: Child, mut errors: impl Read) -> (Option<i32>, String, String) {
    let (mut out, mut rest) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    errors.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap().code(), out, rest)
}

#[test]
fn a_wait_goes_on_while_the_server_is_away() {
    let mut server = Server::start().ready();
    server.shell().quietly(&["task", "create", "--kind", "nobody", "--id", "a"]);
    let mut waits = start(&server, &["task", "wait", "a", "--timeout", "10m"]);
    let mut errors = BufReader::new(waits.stderr.take().unwrap());
    until_said(&mut errors, "a: ");
    server.kill();
    // Said when the client has tried in vain for as long as it does.
    until_said(&mut errors, "; retrying");
    server.start_again();
    server.shell().quietly(&["task", "cancel", "a"]);
    let (code, out, rest) = ended(waits, errors);
    assert_eq!((code, out.lines().next()), (Some(6), Some("a cancelled")), "{rest}");
}

#[test]
fn several_tasks_are_waited_for_at_once_also_while_the_server_is_away() {
    let mut server = Server::start().ready();
    for id in ["a", "b", "c"] {
        server.shell().quietly(&["task", "create", "--kind", "nobody", "--id", id]);
    }
    let mut waits = start(&server, &["task", "wait", "a", "b", "c", "--timeout", "10m"]);
    let mut errors = BufReader::new(waits.stderr.take().unwrap());
    (0..3).for_each(|_| until_said(&mut errors, ": no connected worker"));
    let mut out = BufReader::new(waits.stdout.take().unwrap()).lines();
    server.shell().quietly(&["task", "cancel", "b"]);
    assert_eq!(out.next().unwrap().unwrap(), "b cancelled");
    server.kill();
    until_said(&mut errors, "; retrying");
    server.start_again();
    server.shell().quietly(&["task", "cancel", "c"]);
    assert_eq!(out.next().unwrap().unwrap(), "c cancelled");
    server.shell().quietly(&["task", "cancel", "a"]);
    assert_eq!(out.next().unwrap().unwrap(), "a cancelled");
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert_eq!(waits.wait().unwrap().code(), Some(6), "{rest}");
    assert!(!rest.contains("; retrying"), "an outage is told once:\n{rest}");
}

#[test]
fn a_wait_for_a_server_that_never_answers_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["task", "wait", "a", "--url", "http://127.0.0.1:1", "--timeout", "100ms"];
    let ended = rota(dir.path()).args(args).output().unwrap();
    assert_eq!(ended.status.code(), Some(5), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn who_waits_for_a_new_task_knows_its_id_at_once() {
    let server = Server::start().ready();
    for (format, said) in [("table", "t_"), ("json", "{\"id\":\"t_")] {
        let args = ["task", "create", "--kind", "nobody", "--wait", "-o", format];
        let mut waits = start(&server, &args);
        let mut errors = BufReader::new(waits.stderr.take().unwrap());
        until_said(&mut errors, said);
        waits.kill().unwrap();
        waits.wait().unwrap();
    }
}

#[test]
fn an_import_goes_on_after_a_restart_and_counts_each_task_once() {
    let mut server = Server::start().ready();
    let mut import = start(&server, &["task", "create", "--file", "-", "-o", "json"]);
    let mut errors = BufReader::new(import.stderr.take().unwrap());
    let mut input = import.stdin.take().unwrap();
    let lines = |count: usize| "{\"kind\": \"nobody\", \"queue\": \"q\"}\n".repeat(count);
    input.write_all(lines(1000).as_bytes()).unwrap();
    let queue = || server.shell().quietly(&["queue", "list"]);
    while !queue().contains("1000") {}
    server.kill();
    input.write_all(lines(1500).as_bytes()).unwrap();
    drop(input);
    until_said(&mut errors, "retrying for");
    server.start_again();
    let (code, out, rest) = ended(import, errors);
    assert_eq!(code, Some(0), "{out}{rest}");
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    let expected = serde_json::json!({
        "created": 2500, "existed": 0, "refused": 0, "unclear": 0, "unknown": 0,
    });
    assert_eq!(summary, expected);
    assert!(server.shell().quietly(&["queue", "list"]).contains("2500"));
}

#[test]
fn an_import_that_is_interrupted_says_what_it_did_and_can_be_run_again() {
    let server = Server::start().ready();
    let create = ["task", "create", "--file", "-", "--idempotency-key", "import-7"];
    let mut import = start(&server, &create);
    let errors = BufReader::new(import.stderr.take().unwrap());
    let mut input = import.stdin.take().unwrap();
    let lines = "{\"kind\": \"nobody\", \"queue\": \"q\"}\n".repeat(1200);
    input.write_all(lines.as_bytes()).unwrap();
    while !server.shell().quietly(&["queue", "list"]).contains("1000") {}
    let id = import.id().to_string();
    std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
    let (code, out, rest) = ended(import, errors);
    drop(input);
    assert_eq!(code, Some(130), "{out}{rest}");
    // Whether the answer came before the interruption is a matter of luck.
    let said = ["1000 created, 0 already existed, 0 refused\n", "0 refused, 1000 unknown"];
    assert!(said.iter().any(|said| out.contains(said)), "{out}");
    assert!(rest.contains("--idempotency-key import-7"), "{rest}");
    let again = start(&server, &create);
    let mut again = again;
    again.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let errors = again.stderr.take().unwrap();
    let (code, out, rest) = ended(again, errors);
    assert_eq!(code, Some(0), "{rest}");
    assert_eq!(out, "200 created, 1000 already existed, 0 refused\n");
}
