//! `rota events`: what happens, line by line.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::shell::{Server, rota};

/// The command, once it listens, and its output.
fn listen(server: &Server, args: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = rota(server.dir())
        .env("ROTA_URL", server.url())
        .args(["events"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

#[test]
fn each_event_is_a_line() {
    let server = Server::start().ready();
    let (mut child, mut lines) = listen(&server, &["--queue", "q"]);
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    errors.read_line(&mut said).unwrap();
    assert_eq!(said, "waiting for events; stop with Ctrl-C\n");
    let create = ["task", "create", "--id", "order-7", "--queue", "q", "--kind", "nobody"];
    server.shell().quietly(&create);
    server.shell().quietly(&["queue", "pause", "q"]);
    server.shell().quietly(&["task", "cancel", "order-7"]);
    for (kind, rest) in [
        ("task.created", "order-7  q/nobody"),
        ("queue.paused", "q"),
        ("task.cancelled", "order-7  q/nobody  cancelled before it started"),
    ] {
        let line = lines.next().unwrap();
        let (time, told) = line.split_at(24);
        assert!(time.ends_with('Z'), "{line}");
        assert_eq!(told, format!("  {kind:<19}  {rest}"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn programs_read_a_json_object_a_line_and_go_on_after_an_id() {
    let server = Server::start().ready();
    let (mut child, mut lines) = listen(&server, &["--task", "a", "-o", "json"]);
    let mut next =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap()).unwrap() };
    assert_eq!(next()["type"], "ready");
    server.shell().quietly(&["task", "create", "--id", "a", "--kind", "nobody"]);
    let created = next();
    assert_eq!(
        (&created["type"], &created["task"]["status"]),
        (&"task.created".into(), &"pending".into())
    );
    child.kill().unwrap();
    child.wait().unwrap();
    server.shell().quietly(&["task", "cancel", "a"]);
    let id = created["id"].as_str().unwrap();
    let args = ["-o", "json", "--type", "task", "--after", id];
    let (mut child, mut lines) = listen(&server, &args);
    let mut next =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap()).unwrap() };
    assert_eq!(next()["type"], "ready");
    assert_eq!(next()["type"], "task.cancelled");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_list_is_shown_again_when_it_changes() {
    let server = Server::start().ready();
    let mut child = rota(server.dir())
        .env("ROTA_URL", server.url())
        .args(["task", "list", "--status", "pending", "--watch"])
        .args(["-o", "template={{ id }}"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The first view may be empty, or come after the task.
    server.shell().quietly(&["task", "create", "--id", "first", "--kind", "nobody"]);
    assert!(lines.any(|line| line == "first"));
    server.shell().quietly(&["task", "create", "--id", "second", "--kind", "nobody"]);
    assert!(lines.any(|line| line == "second"));
    // It leaves the list.
    server.shell().quietly(&["task", "cancel", "second"]);
    let mut view = Vec::new();
    for line in lines {
        if !line.is_empty() {
            view.push(line);
        } else if std::mem::take(&mut view) == ["first"] {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let server = Server::start().ready();
    for (args, said) in [
        (&["--type", "none"][..], "type"),
        (&["--after", "x"], "last_event_id"),
        (&["--label", "x"], "NAME=VALUE"),
    ] {
        let args = [&["events"], args].concat();
        let (code, out, errors) = server.shell().run(&args, "", &[]);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {errors}");
        assert!(errors.contains(said), "{args:?}: {errors}");
    }
}
