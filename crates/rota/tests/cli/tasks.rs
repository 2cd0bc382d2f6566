//! `rota task`.

use crate::shell::Server;

#[test]
fn a_task_is_created_waited_for_and_read() {
    let server = Server::start().ready();
    server
        .shell()
        .say(&[
            "task",
            "create",
            "--id",
            "hello",
            "--label",
            "team=docs",
            "--command",
            "--",
            "echo",
            "hi",
        ])
        .say(&["task", "wait", "hello"])
        .say(&["task", "get", "hello"])
        .say(&["task", "result", "hello"])
        .say(&["task", "attempts", "hello"])
        .say(&["task", "list"])
        .say(&["task", "delete", "hello"])
        .say(&["task", "list"])
        .say(&["task", "get", "hello"])
        .matches("task_life");
}

#[test]
fn programs_get_json() {
    let server = Server::start().ready();
    server
        .shell()
        .say(&[
            "task",
            "create",
            "--id",
            "hello",
            "-o",
            "json",
            "--wait",
            "--command",
            "--",
            "echo",
            "hi",
        ])
        .say(&["task", "get", "hello", "-o", "json"])
        .say(&["task", "attempts", "hello", "-o", "json"])
        .say(&["task", "list", "--limit", "1", "-o", "json"])
        .say(&["task", "delete", "hello", "-o", "json"])
        .say(&["task", "list", "-o", "json"])
        .matches("task_json");
}

#[test]
fn a_waiting_task_says_why_and_can_be_steered() {
    let server = Server::start().ready();
    server
        .shell()
        .say(&["task", "create", "--id", "later", "--kind", "http", "--delay", "1h"])
        .say(&["task", "get", "later"])
        .say(&["task", "reschedule", "later", "--delay", "2h"])
        .say(&["task", "priority", "later", "9"])
        .say(&[
            "task",
            "create",
            "--id",
            "unserved",
            "--kind",
            "resize",
            "--payload",
            "{\"width\": 7}",
        ])
        .say(&["task", "get", "unserved"])
        .say(&["task", "list", "--status", "scheduled,pending"])
        .say(&["task", "cancel", "unserved"])
        .say(&["task", "cancel", "unserved"])
        .say(&["task", "retry", "unserved"])
        .say(&["task", "delete", "unserved"])
        .matches("task_waiting");
}

#[test]
fn failures_are_shown_and_decide_the_exit_code() {
    let server = Server::start().ready();
    let script = "echo on its way; echo 'no such file' >&2; exit 3";
    server
        .shell()
        .say(&[
            "task",
            "create",
            "--id",
            "bad",
            "--max-attempts",
            "1",
            "--command",
            "--",
            "sh",
            "-c",
            script,
        ])
        .say(&["task", "wait", "bad"])
        .say(&["task", "get", "bad"])
        .say(&["task", "list", "--status", "failed"])
        .say(&["task", "result", "bad"])
        .say(&["task", "create", "--wait", "--id", "none", "--command", "--", "no-such-program"])
        .say(&["task", "create", "--id", "long", "--kind", "nobody"])
        .say(&["task", "wait", "long", "--timeout", "200ms"])
        .matches("task_failures");
}

#[test]
fn who_waits_is_told_of_retries_and_of_what_was_printed() {
    let server = Server::start().ready();
    let create = ["task", "create", "--wait", "--command", "--max-attempts", "2", "--no-jitter"];
    let more = ["--backoff-initial", "2s", "--backoff-multiplier", "1.5", "--backoff-max", "3s"];
    let more = [&create[..], &more, &["--max-lost", "1"]].concat();
    let program = ["--", "sh", "-c", "echo on its way; exit 3"];
    server
        .shell()
        .say(&[&more[..], &["--id", "bad"], &program].concat())
        .say(&[&create[..], &["--id", "well", "--", "echo", "hi"]].concat())
        .say(&["task", "create", "--kind", "k", "--backoff-initial", "2h"])
        .matches("task_wait");
    let bad = server.shell().quietly(&["task", "get", "bad", "-o", "json"]);
    let bad: serde_json::Value = serde_json::from_str(&bad).unwrap();
    let retry = serde_json::json!({
        "max_attempts": 2, "initial": "2s", "multiplier": 1.5, "max": "3s", "jitter": "none",
        "max_lost": 1, "max_snoozes": 1000,
    });
    assert_eq!(bad["retry"], retry);
}

#[test]
fn the_retry_policy_of_a_waiting_task_can_be_changed_in_all_its_parts() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    let create = ["task", "create", "--kind", "nobody", "--id", "mine", "--max-attempts", "2"];
    shell.quietly(&create);
    let mut changed = |flags: &[&str]| {
        let update = [&["task", "update", "mine", "-o", "json"], flags].concat();
        let task: serde_json::Value = serde_json::from_str(&shell.quietly(&update)).unwrap();
        task["retry"].clone()
    };
    let all = ["--no-jitter", "--max-lost", "1", "--max-snoozes", "4", "--backoff-initial", "2s"];
    let more = ["--backoff-multiplier", "1.5", "--backoff-max", "3s"];
    let retry = serde_json::json!({
        "max_attempts": 2, "initial": "2s", "multiplier": 1.5, "max": "3s", "jitter": "none",
        "max_lost": 1, "max_snoozes": 4,
    });
    assert_eq!(changed(&[&all[..], &more].concat()), retry);
    let jitter = changed(&["--jitter"]);
    assert_eq!((&jitter["jitter"], &jitter["initial"]), (&"full".into(), &"2s".into()));
}

#[test]
fn many_tasks_come_from_a_file() {
    let server = Server::start().ready();
    let lines = [
        r#"{"id": "a", "kind": "nobody", "queue": "mail", "payload": {"n": 1}}"#,
        "",
        r#"{"id": "b", "kind": "nobody", "queue": "mail", "priority": 12}"#,
        r#"{"id": "c", "kind": "nobody", "queue": "mail"#,
        r#"{"id": "d", "kind": "nobody", "colour": "red"}"#,
        r#"{"id": "a", "kind": "nobody", "queue": "mail", "payload": {"n": 1}}"#,
        r#"{"id": "a", "kind": "nobody", "queue": "mail", "payload": {"n": 2}}"#,
        r#"{"id": "e", "kind": "nobody", "queue": "mail", "delay": "1h"}"#,
    ];
    let input = lines.join("\n");
    server
        .shell()
        .say_with(&["task", "create", "--file", "-"], &input, &[])
        .say_with(&["task", "create", "--file", "-", "-o", "json"], lines[0], &[])
        .say(&["task", "create", "--file", "no-such-file.jsonl"])
        .say_with(&["task", "create", "--file", "-", "--dry-run"], &input, &[])
        .say_with(&["task", "create", "--file", "-", "--dry-run", "-o", "json"], lines[3], &[])
        .say(&["queue", "list"])
        .matches("task_file");
}

#[test]
fn failures_are_grouped_and_retried_by_their_fingerprint() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    for (id, code) in [("a", "3"), ("b", "4")] {
        let script = format!("exit {code}");
        let create = ["task", "create", "--id", id, "--max-attempts", "1", "--command"];
        shell.quietly(&[&create[..], &["--", "sh", "-c", &script]].concat());
        shell.say(&["task", "wait", id]);
    }
    let error = rota_core::ErrorFingerprint::of("command", "exit code 3").to_string();
    shell.quietly(&["task", "create", "--id", "c", "--kind", "nobody", "--queue", "mail"]);
    shell
        .say(&["task", "failures"])
        .say(&["task", "failures", "-o", "wide"])
        .say(&[
            "task",
            "failures",
            "-o",
            "template={{ count }} {{ message }} {{ error_fingerprint }}",
        ])
        .say(&["task", "failures", "--kind", "nobody"])
        .say(&["task", "failures", "--retrying"])
        .say(&["task", "count"])
        .say(&["task", "count", "--status", "pending", "-o", "json"])
        .say(&["task", "count", "--error-fingerprint", &error])
        .say(&["task", "list", "--error-fingerprint", "x"])
        .say(&["task", "list", "--error-fingerprint", &error, "-o", "template={{ id }}"])
        .say(&["task", "delete", "--error-fingerprint", &error, "--dry-run"])
        .say(&["task", "delete", "--error-fingerprint", &error, "--yes"])
        .say(&["task", "failures"])
        .matches("task_failure_groups");
}

#[test]
fn many_tasks_are_changed_by_a_filter_once_that_is_confirmed() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    for id in ["a", "b", "c"] {
        shell.quietly(&["task", "create", "--kind", "nobody", "--queue", "mail", "--id", id]);
    }
    shell
        .say(&["task", "cancel", "--queue", "mail"])
        .say(&["task", "cancel", "--queue", "mail", "--yes"])
        .say(&["task", "cancel", "--queue", "mail", "--yes", "-o", "json"])
        .say(&["task", "retry", "--queue", "mail", "--status", "cancelled", "--yes"])
        .say(&["task", "delete", "--queue", "mail", "--yes"])
        .say(&["tasks", "ls", "--run-at-from", "2030-01-01T00:00:00Z"])
        .say(&["task", "cancel", "a", "--queue", "mail"])
        .say(&["task", "cancel", "--all", "--queue", "mail"])
        .say(&["task", "delete", "--all"])
        .say(&["task", "create", "--kind", "nobody", "--id", "last", "--delay", "1h"])
        .say(&["task", "cancel", "--run-at-to", "2030-01-01T00:00:00Z", "--yes"])
        .say(&["task", "delete", "--all", "--yes"])
        .say(&["task", "cancel"])
        .matches("task_bulk");
}

#[test]
fn tasks_are_found_by_text_worker_and_priority() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    for (id, payload, priority) in [
        ("order-1", r#"{"to":"Ada@Example.org"}"#, "5"),
        ("order-2", r#"{"to":"bob@example.org"}"#, "9"),
        ("order-3", "null", "0"),
    ] {
        let task = ["task", "create", "--kind", "nobody", "--queue", "mail", "--id", id];
        shell.quietly(&[&task[..], &["--payload", payload, "--priority", priority]].concat());
    }
    shell
        .say(&["task", "list", "--search", "ADA@example"])
        .say(&["task", "list", "--search", "@example.org", "--priority", "9,8"])
        .say(&["task", "list", "--search", "order-3"])
        .say(&["task", "list", "--search", "nothing like it"])
        .say(&["task", "list", "--priority", "0"])
        .say(&["task", "list", "--worker", "nobody"])
        .say(&["task", "list", "--priority", "10"])
        .say(&["task", "list", "--search", ""])
        .say(&["task", "cancel", "--search", "example", "--dry-run", "-o", "json"])
        .say(&["task", "cancel", "--search", "example", "--yes", "-o", "json"])
        .say(&["task", "cancel", "order-1", "--search", "example"])
        .matches("task_search");
}
