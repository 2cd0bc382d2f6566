//! Text that is not UTF-8, is empty, or would do something to a terminal: from the command line, from files
//! and from tasks.

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::ffi::OsStrExt as _,
    process::{Output, Stdio},
};

use crate::shell::{Server, rota};

/// Characters that must not reach a terminal. Line breaks and tabs may.
fn harm(bytes: &[u8]) -> Vec<char> {
    let text = String::from_utf8(bytes.to_vec()).expect("what is printed is UTF-8");
    let is_harm = |c: &char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(is_harm).collect()
}

fn run(server: &Server, args: &[&str], input: &[u8]) -> Output {
    let mut child = rota(server.dir())
        .env("ROTA_URL", server.url())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn an_argument_that_is_not_utf_8_is_wrong_usage_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let verbs = "dev|server|worker|task|task create|task list|task get|task wait|task result|task attempts|\
        task cancel|task retry|task delete|task reschedule|task priority|queue|queue list|queue get|\
        queue pause|queue resume|workers|workers list|workers drain|cluster|cluster transfer|events|top|info|log|\
        config|bench|bench throughput|completions|nonsense|-o json task get|task create --command -- echo";
    for verb in verbs.split('|').map(str::trim) {
        let bad = OsStr::from_bytes(b"\xff");
        let ended = rota(dir.path()).args(verb.split(' ')).arg(bad).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{verb}: {said}");
        assert!(!said.contains("panicked"), "{verb}: {said}");
    }
    let ended = rota(dir.path()).arg(OsStr::from_bytes(b"\xff")).output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
}

#[test]
fn what_tasks_say_does_nothing_to_the_terminal() {
    let server = Server::start().ready();
    let quiet = |args: &[&str], code: i32| {
        let ended = run(&server, args, b"");
        let both = [&ended.stdout[..], &ended.stderr].concat();
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {}", text(&both));
        let harm = harm(&both);
        assert!(harm.is_empty(), "{args:?}: {harm:?} in {}", text(&both));
        text(&both).to_owned()
    };
    let script = r"printf '\033]0;x\007\342\200\256out\302\2332J\377\n'; printf '\033[31mbad\342\200\256\r' >&2; exit 3";
    let label = "team=\u{202e}gpj\u{1b}]0;x\u{7}";
    let create =
        ["task", "create", "--id", "bad", "--label", label, "--max-attempts", "2", "--wait"];
    let more = ["--backoff-initial", "1ms", "--command", "--", "sh", "-c", script];
    let said = quiet(&[&create[..], &more].concat(), 6);
    assert!(said.contains(r"\u{1b}[31mbad\u{202e}"), "{said}");
    assert!(said.contains(r"\xff"), "{said}");
    let said = quiet(&["task", "get", "bad"], 0);
    assert!(said.contains(r"\xff"), "{said}");
    assert!(said.contains(r"team=\u{202e}gpj\u{1b}]0;x\u{7}"), "{said}");
    for args in [
        &["task", "wait", "bad"][..],
        &["task", "wait", "bad", "-o", "json"],
        &["task", "create", "--id", "bad", "--kind", "other", "--label", label],
    ] {
        quiet(args, if args[1] == "create" { 4 } else { 6 });
    }
    for args in [
        &["task", "attempts", "bad"][..],
        &["task", "list"],
        &["task", "list", "--label", label],
        &["task", "get", "bad", "-o", "json"],
        &["task", "attempts", "bad", "-o", "json"],
    ] {
        quiet(args, 0);
    }
    // What was typed comes back in errors.
    quiet(&["task", "get", "x\u{1b}]0;x\u{7}"], 2);
    quiet(&["task", "get", "x", "--\u{1b}]0;x\u{7}"], 2);
    quiet(&["\u{202e}"], 2);
    quiet(&["task", "create", "--kind", "k", "--label", "\u{1b}[2J"], 2);
    quiet(&["task", "list", "--url", "http://\u{1b}[2J"], 2);
    // Programs get the same values.
    let json = run(&server, &["task", "get", "bad", "-o", "json"], b"");
    let task: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(task["labels"]["team"], "\u{202e}gpj\u{1b}]0;x\u{7}");
}

#[test]
fn an_empty_value_is_refused_where_it_would_be_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["task", "create", "--kind", ""][..],
        &["task", "create", "--kind", "k", "--id", ""],
        &["task", "create", "--kind", "k", "--queue", ""],
        &["task", "create", "--kind", "k", "--idempotency-key", ""],
        &["task", "create", "--http", ""],
        &["task", "create", "--http", "example.org"],
        &["task", "list", "--queue", ""],
        &["task", "list", "--kind", ""],
        &["task", "list", "--status", ""],
        &["task", "list", "--label", ""],
        &["task", "list", "--limit", "0"],
        &["task", "delete", "--queue", "", "--status", "failed", "--yes"],
        &["task", "cancel", ""],
        &["task", "get", ""],
        &["task", "wait", ""],
        &["queue", "pause", ""],
        &["workers", "drain", ""],
        &["cluster", "transfer", "--to", ""],
        &["log", ""],
        &["task", "list", "--url", ""],
        &["task", "list", "--url", ","],
        &["task", "create", "--kind", "k", "--label", "a=1", "--label", "a=2"],
        &["task", "list", "--label", "a=1", "--label", "a=2"],
    ] {
        let ended = rota(dir.path()).args(args).output().unwrap();
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {said}");
    }
}

#[test]
fn flags_that_would_have_no_effect_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "").unwrap();
    let one_task = "--kind=k|--queue=q|--payload=1|--http=http://x|--id=a|--label=a=b|--priority=1|--delay=1s|\
        --run-at=2030-01-01T00:00:00Z|--expires-at=2030-01-01T00:00:00Z|--timeout=1s|--max-attempts=1|\
        --max-lost=1|--backoff-initial=1s|--backoff-multiplier=2|--backoff-max=1s|--no-jitter|--jitter|--retention=1s|\
        --wait";
    for flag in one_task.split('|').map(str::trim) {
        let ended =
            rota(dir.path()).args(["task", "create", "--file", "f", flag]).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{flag}: {}", text(&ended.stderr));
    }
    for args in [&["--kind", "k", "--", "echo"][..], &["--http", "http://x", "--", "echo"]] {
        let ended = rota(dir.path()).args(["task", "create"]).args(args).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {}", text(&ended.stderr));
    }
}

#[test]
fn the_lines_of_a_file_fail_each_for_itself() {
    // Lower limits than the defaults: requests are cut to what the server takes.
    let server = Server::start_with(&[
        ("ROTA_LIMITS_BATCH", "100"),
        ("ROTA_LIMITS_REQUEST_BYTES", "2000000"),
        ("ROTA_LIMITS_PAYLOAD_BYTES", "1000000"),
        ("ROTA_LIMITS_PAGE_SIZE", "7"),
    ]);
    let good = |id: &str| format!("{{\"kind\": \"nobody\", \"id\": \"{id}\"}}\n");
    let mut input = b"\xef\xbb\xbf".to_vec();
    for line in 1..=300 {
        input.extend(good(&format!("a{line}")).as_bytes());
    }
    input.extend(b"{\"kind\": \"nobody\", \"id\": \"\xff\"}\n");
    input.extend(
        format!("{{\"kind\": \"k\", \"payload\": \"{}\"}}\n", "x".repeat(17 << 20)).as_bytes(),
    );
    input.extend(good("last").as_bytes());
    let ended = run(&server, &["task", "create", "--file", "-"], &input);
    assert_eq!(text(&ended.stdout), "301 created, 0 already existed, 2 refused\n");
    let said = text(&ended.stderr);
    assert!(said.contains("line 301: not UTF-8 at byte"), "{said}");
    assert!(said.contains("line 302: "), "{said}");
    assert!(said.len() < 2000, "{said}");
    assert_eq!(ended.status.code(), Some(4));

    // Lists are cut to the server's pages in the same way.
    for (limit, all) in [("3", 3), ("20", 20), ("1000", 301)] {
        let ended = run(&server, &["task", "list", "--limit", limit, "-o", "json"], b"");
        let list: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(list["tasks"].as_array().map(Vec::len), Some(all));
        assert_eq!(list["next_cursor"].is_null(), all == 301, "{limit}");
    }

    let ended = run(&server, &["task", "create", "--file", "-"], b"\xff\xfe{\0");
    assert_eq!(
        (text(&ended.stdout), ended.status.code()),
        ("0 created, 0 already existed, 0 refused\n", Some(2))
    );
    assert!(text(&ended.stderr).contains("UTF-16"), "{}", text(&ended.stderr));
    let ended = run(&server, &["task", "create", "--file", "."], b"");
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
}

#[test]
fn a_payload_may_begin_with_a_byte_order_mark_and_must_be_utf_8() {
    let server = Server::start().ready();
    let create = ["task", "create", "--kind", "nobody", "--payload", "-"];
    let ended = run(&server, &create, b"\xef\xbb\xbf{\"a\": 1}");
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    let ended = run(&server, &create, b"{\"a\": \"\xff\"}");
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(text(&ended.stderr), "error: --payload -: not UTF-8 at byte 8\n");
}

#[test]
fn a_task_without_a_result_has_null_for_programs() {
    let server = Server::start().ready();
    run(&server, &["task", "create", "--kind", "nobody", "--id", "a"], b"");
    let ended = run(&server, &["task", "result", "a", "-o", "json"], b"");
    assert_eq!((text(&ended.stdout), text(&ended.stderr)), ("null\n", ""));
    let ended = run(&server, &["task", "result", "a"], b"");
    assert_eq!((text(&ended.stdout), text(&ended.stderr)), ("", "a has no result\n"));
}

#[test]
fn an_address_with_a_part_that_is_not_used_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (url, part) in [
        ("http://127.0.0.1:1/prefix", "path"),
        ("http://127.0.0.1:1/?a=b", "query"),
        ("http://user:secret@127.0.0.1:1", "user"),
    ] {
        let ended = rota(dir.path()).args(["task", "list", "--url", url]).output().unwrap();
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    }
    let token = rota(dir.path()).env("ROTA_TOKEN", "a\nb").args(["task", "list"]).output().unwrap();
    assert_eq!(token.status.code(), Some(2), "{}", text(&token.stderr));
    // A bare slash is no path.
    let ended =
        rota(dir.path()).args(["task", "list", "--url", "http://127.0.0.1:1/"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(5));
}
