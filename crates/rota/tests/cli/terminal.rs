//! What is printed on terminals of several widths, in pipes, and in the formats for programs.
//!
//! `script` of util-linux gives the program a terminal.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::shell::{Server, Shell, rota};

/// The output on a terminal with this number of columns.
fn on_terminal(
    server: &Server,
    columns: usize,
    args: &[&str],
    variables: &[(&str, &str)],
) -> String {
    answering(server, columns, args, variables, "").1
}

/// The exit code and the output for somebody who types an answer.
fn answering(
    server: &Server,
    columns: usize,
    args: &[&str],
    variables: &[(&str, &str)],
    answer: &str,
) -> (Option<i32>, String) {
    let program = rota(server.dir());
    let quoted = |arg: &&str| format!("'{}'", arg.replace('\'', r"'\''"));
    let args: Vec<_> = args.iter().map(quoted).collect();
    let line = format!(
        "stty cols {columns} rows 50; exec '{}' {}",
        program.get_program().display(),
        args.join(" ")
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = script
        .env("ROTA_URL", server.url())
        .env("TERM", "xterm-256color")
        .envs(variables.iter().copied())
        .current_dir(server.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of util-linux runs");
    // The program may have ended before it reads.
    let _ = child.stdin.take().unwrap().write_all(answer.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
    (output.status.code(), text)
}

/// The text without colours.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// A server with tasks whose ids, kinds and errors are short and long.
fn with_tasks() -> Server {
    let server = Server::start().ready();
    let mut shell = server.shell();
    let long = format!("order/{}/7", "4".repeat(119));
    shell.quietly(&["task", "create", "--id", &long, "--kind", "nobody", "--queue", "mail"]);
    let labels = ["--label", "team=docs", "--delay", "1h"];
    shell.quietly(&[&["task", "create", "--id", "later", "--kind", "http"][..], &labels].concat());
    let fails = ["task", "create", "--id", "bad", "--max-attempts", "1", "--wait", "--command"];
    let (code, ..) = shell.run(&[&fails[..], &["--", "sh", "-c", "exit 3"]].concat(), "", &[]);
    assert_eq!(code, 6);
    server
}

#[test]
fn lists_fit_each_terminal() {
    let server = with_tasks();
    server.shell().quietly(&["schedule", "create", "n", "--cron", "0 1 * * *", "--kind", "k"]);
    let mut told = String::new();
    for columns in [60, 80, 200] {
        for line in [
            "task list --time utc",
            "queue list",
            "workers list",
            "cluster",
            "schedule list",
            "context list",
            "doctor",
            "config",
        ] {
            let args: Vec<_> = line.split(' ').collect();
            let text = plain(&on_terminal(&server, columns, &args, &[]));
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= columns, "{line} at {columns}: {widest}\n{text}");
            if line == "task list --time utc" || line == "queue list" {
                told.push_str(&format!("{columns} columns: rota {line}\n{text}\n"));
            }
        }
    }
    // Dates have the same width in each run.
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z *", "[date] ");
    settings.add_filter(r"due at [0-9T:-]+…", "due at [date]…");
    settings.add_filter(r" \d+m?s +", " [while] ");
    settings.bind(|| insta::assert_snapshot!("terminal_widths", told));
}

#[test]
fn a_question_says_how_many_tasks_it_is_about() {
    let server = with_tasks();
    let cancel = ["task", "cancel", "--status", "pending,scheduled"];
    let (code, text) = answering(&server, 80, &cancel, &[], "n\n");
    assert!(text.contains("cancel 2 tasks? [y/N]"), "{text}");
    assert!(text.contains("no task was changed"), "{text}");
    assert_eq!(code, Some(1));
    let (code, text) = answering(&server, 80, &cancel, &[], "y\n");
    assert!(text.ends_with("2 changed\n"), "{text}");
    assert_eq!(code, Some(0));
    let (code, text) = answering(&server, 80, &cancel, &[], "");
    assert!(text.contains("no task matches"), "{text}");
    assert_eq!(code, Some(0));
}

#[test]
fn colours_are_for_terminals_unless_told_otherwise() {
    let server = with_tasks();
    let coloured = |args: &[&str], variables: &[(&str, &str)]| {
        on_terminal(&server, 80, args, variables).contains("\u{1b}[31mfailed\u{1b}[0m")
    };
    assert!(coloured(&["task", "list"], &[]));
    assert!(!coloured(&["task", "list"], &[("NO_COLOR", "1")]));
    assert!(!coloured(&["task", "list", "--color", "never"], &[]));
    assert!(!coloured(&["task", "list"], &[("TERM", "dumb")]));
    assert!(coloured(&["--color", "always", "task", "list"], &[("NO_COLOR", "1")]));
    let piped = |args: &[&str]| server.shell().quietly(args).contains('\u{1b}');
    assert!(!piped(&["task", "list"]));
    assert!(piped(&["task", "list", "--color=always"]));
    assert!(!piped(&["task", "list", "-o", "json", "--color=always"]));
}

#[test]
fn every_format_can_be_read() {
    let server = with_tasks();
    server
        .shell()
        .say(&["task", "list", "-o", "wide"])
        .say(&["task", "list", "-o", "jsonl"])
        .say(&["task", "list", "-o", "yaml", "--limit", "1"])
        .say(&["task", "list", "-o", "jsonl", "--limit", "1"])
        .say(&["task", "list", "-o", "template={{ id }}", "--limit", "2"])
        .say(&["task", "list", "-o", "template={{ id }} {{ status }} {{ error.message }}"])
        .say(&["task", "get", "bad", "-o", "template={{ attempt }} of {{ retry.max_attempts }}"])
        .say(&["task", "get", "bad", "later", "-o", "template={{ id }}"])
        .say(&["task", "result", "later", "-o", "yaml"])
        .say(&["workers", "list", "-o", "template={{ name }}"])
        .say(&["-o", "template={{ id", "task", "list"])
        .say(&["-o", "template", "task", "list"])
        .say(&["-o", "xml", "task", "list"])
        .say(&["task", "get", "nobody", "-o", "yaml"])
        .matches("formats");
}

#[test]
fn times_are_relative_in_utc_or_local() {
    let server = with_tasks();
    let shell = server.shell();
    let created = |args: &[&str], zone: &str| {
        let template = ["task", "list", "--status", "failed"];
        let (code, text, stderr) = shell.run(&[&template[..], args].concat(), "", &[("TZ", zone)]);
        assert_eq!(code, 0, "{stderr}");
        text
    };
    assert!(created(&[], "UTC").contains(" ago "));
    let utc = created(&["--time", "utc"], "Asia/Tokyo");
    assert!(utc.contains("Z "), "{utc}");
    let local = created(&["--time", "local"], "Asia/Tokyo");
    assert!(local.contains("+09:00 "), "{local}");
}

#[test]
fn several_tasks_are_named_at_once() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    for id in ["a", "b", "c", "d"] {
        shell.quietly(&["task", "create", "--kind", "nobody", "--queue", "mail", "--id", id]);
    }
    shell
        .say(&["task", "cancel", "--queue", "mail", "--dry-run"])
        .say(&["task", "cancel", "--queue", "mail", "--dry-run", "-o", "json"])
        .say(&["task", "cancel", "a", "b", "nobody"])
        .say(&["task", "retry", "a", "b", "-o", "template={{ id }} {{ status }}"])
        .say_with(&["task", "cancel", "-", "d"], "a\n\nb\na\n", &[])
        .say_with(&["task", "delete", "-"], "a\nb\nc\n", &[])
        .say_with(&["task", "delete", "-", "-o", "json"], "d\n", &[])
        .say_with(&["task", "cancel", "-"], "", &[])
        .say(&["task", "cancel", "--queue", "mail"])
        .say(&["task", "cancel", "c", "--dry-run"])
        .say_with(&["task", "delete", "-", "c", "--dry-run"], "none\n", &[])
        .say(&["task", "cancel", "c", "--dry-run", "-o", "json"])
        .say(&["task", "cancel", "c", "--dry-run", "--yes"])
        .say(&["schedule", "pause", "--all", "--dry-run"])
        .matches("several");
}

#[test]
fn a_wait_for_many_tasks_gives_each_once() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    let ids: Vec<String> = (0..250).map(|number| format!("t{number}")).collect();
    let lines =
        ids.iter().map(|id| format!("{{\"id\":\"{id}\",\"kind\":\"nobody\",\"queue\":\"q\"}}\n"));
    let create = ["task", "create", "--file", "-"];
    assert_eq!(shell.run(&create, &lines.collect::<String>(), &[]).0, 0);
    shell.quietly(&["task", "cancel", "--queue", "q", "--yes"]);
    let wait = |format: &str| {
        let (code, text, stderr) =
            shell.run(&["task", "wait", "-", "-o", format], &ids.join("\n"), &[]);
        assert_eq!(code, 6, "{stderr}");
        text
    };
    let document: Value = serde_json::from_str(&wait("json")).unwrap();
    let named =
        document["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap());
    assert_eq!(named.collect::<Vec<_>>(), ids, "a document has them in the order of the command");
    assert_eq!(wait("jsonl").lines().count(), ids.len());
    let (code, _, stderr) = shell.run(&["task", "wait", "-"], &ids.join("\n"), &[]);
    assert_eq!((code, stderr.lines().next()), (6, Some("waiting for 250 tasks")), "{stderr}");
    for id in ["live", "alive"] {
        shell.quietly(&["task", "create", "--kind", "nobody", "--id", id]);
    }
    for (ids, expected) in
        [(["t0", "t1"], 6), (["live", "alive"], 124), (["t0", "live"], 1), (["gone", "none"], 3)]
    {
        let (code, _, stderr) =
            shell.run(&[&["task", "wait", "--timeout", "0s"], &ids[..]].concat(), "", &[]);
        assert_eq!(code, expected, "{stderr}");
    }
}

#[test]
fn dates_can_be_words_and_durations() {
    let server = with_tasks();
    let shell = server.shell();
    let count = |args: &[&str]| {
        let list = ["task", "list", "-o", "template={{ id }}"];
        let (code, text, stderr) = shell.run(&[&list[..], args].concat(), "", &[]);
        assert_eq!(code, 0, "{stderr}");
        text.lines().count()
    };
    assert_eq!(count(&["--since", "1h"]), 3);
    assert_eq!(count(&["--since", "2 days ago", "--until", "tomorrow"]), 3);
    assert_eq!(count(&["--until", "1h"]), 0);
    assert_eq!(count(&["--created-from", "2026-01-31"]), 3);
    assert_eq!(count(&["--run-at-from", "in 30 minutes"]), 1);
    let mut shell = server.shell();
    shell
        .say(&["task", "list", "--since", "sometime"])
        .say(&["task", "list", "--run-at-from", "1h"])
        .say(&["schedule", "preview", "0 1 * * *", "--from", "2026-03-27", "-n", "1"])
        .matches("dates");
}

#[test]
fn global_options_stand_anywhere() {
    let server = Server::start_with(&[("ROTA_API_TOKENS", "0123456789abcdef")]);
    let dir = server.dir();
    std::fs::write(dir.join("token"), "0123456789abcdef\n").unwrap();
    let url = server.url();
    let mut shell = Shell::alone(dir);
    for line in [
        "--url URL --token-file token -o json task list",
        "task --url URL list --token-file token -o json",
        "task list -o json --token-file token --url URL",
    ] {
        let args: Vec<_> =
            line.split(' ').map(|word| if word == "URL" { url } else { word }).collect();
        assert!(shell.quietly(&args).contains("\"tasks\""), "{line}");
    }
    let typed = ["--url", url, "--token-file", "-", "task", "list", "-o", "jsonl"];
    assert_eq!(shell.run(&typed, "0123456789abcdef\n", &[]).0, 0);
    assert_eq!(
        shell.run(&["task", "list"], "", &[("ROTA_URL", url), ("ROTA_TOKEN_FILE", "token")]).0,
        0
    );
    std::fs::write(dir.join("empty"), "").unwrap();
    shell
        .say(&["task", "list", "--token-file", "missing"])
        .say(&["task", "list", "--token-file", "empty"])
        .say_with(&["task", "list"], "", &[("ROTA_TOKEN", "x"), ("ROTA_TOKEN_FILE", "token")])
        .say_with(&["--token-file", "-", "task", "create", "--file", "-"], "x\n", &[])
        .say(&["server", "--url", url])
        .say(&["store", "check", "file:x", "--token-file", "token"])
        .say(&["--context", "prod", "dev"])
        .matches("global");
}

#[test]
fn clusters_are_kept_by_name() {
    let server = Server::start_with(&[("ROTA_API_TOKENS", "0123456789abcdef")]);
    std::fs::write(server.dir().join("token"), "0123456789abcdef\n").unwrap();
    let url = server.url();
    let mut shell = Shell::alone(server.dir());
    shell
        .say(&["context", "list"])
        .say(&["context", "show"])
        .say(&["context", "add", "prod", "--url", url, "--token-file", "token"])
        .say(&["context", "add", "other", "--url", "http://127.0.0.1:1"])
        .say(&["context", "add", "bad", "--url", "nonsense"])
        .say(&["context", "add", "bad"])
        .say(&["context", "list"])
        .say(&["task", "list"])
        .say(&["task", "list", "--context", "other"])
        .say_with(&["task", "list"], "", &[("ROTA_CONTEXT", "other")])
        .say(&["--context", "other", "task", "list", "--url", url])
        .say(&["--context", "nobody", "task", "list"])
        // The token of a context does not go to another server.
        .say(&["task", "list", "--url", url])
        .say(&["context", "use", "other"])
        .say(&["context", "show", "-o", "json"])
        .say(&["context", "remove", "other"])
        .say(&["context", "list", "-o", "yaml"])
        .matches("contexts");
}

#[test]
fn a_doctor_says_what_to_do() {
    let server = Server::start_with(&[("ROTA_API_TOKENS", "0123456789abcdef")]);
    let right = [("ROTA_TOKEN", "0123456789abcdef")];
    let mut shell = server.shell();
    while !shell.run(&["workers", "list"], "", &right).1.contains("dev") {}
    shell
        .say_with(&["doctor"], "", &right)
        .say_with(&["doctor"], "", &[("ROTA_TOKEN", "fedcba9876543210")])
        .say(&["doctor", "--url", "http://127.0.0.1:1"])
        .say(&["doctor", "--url", "http://127.0.0.1:1", "-o", "jsonl"])
        .say(&["doctor", "--url", "nonsense"])
        .matches("doctor");
}

#[test]
fn a_request_has_a_method_headers_and_a_body() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    std::fs::write(server.dir().join("body"), "{\"n\": 1}").unwrap();
    let mut payload = |args: &[&str]| -> Value {
        let create = ["task", "create", "--delay", "1h", "-o", "json", "--http", "http://x/a?b=c"];
        let task = shell.quietly(&[&create[..], args].concat());
        serde_json::from_str::<Value>(&task).unwrap()["payload"].take()
    };
    let url = "http://x/a?b=c";
    assert_eq!(payload(&[]), serde_json::json!({ "url": url }));
    assert_eq!(
        payload(&[
            "--method",
            "put",
            "--header",
            "X-Key: v:1",
            "--header",
            "accept:*/*",
            "--body",
            "@body"
        ]),
        serde_json::json!({
            "url": url, "method": "PUT", "headers": { "x-key": "v:1", "accept": "*/*" }, "body": { "n": 1 },
        })
    );
    // A text is sent as it is, also one that is a JSON string with its quotes.
    assert_eq!(payload(&["--body", "a=1"])["body"], "a=1");
    assert_eq!(payload(&["--body", "\"a\""])["body"], "\"a\"");
    let mut shell = server.shell();
    let create = ["task", "create", "--http", "http://x", "-o", "json", "--body"];
    for typed in ["-", "@-"] {
        let (code, task, stderr) = shell.run(&[&create[..], &[typed]].concat(), "{\"n\": 2}", &[]);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(serde_json::from_str::<Value>(&task).unwrap()["payload"]["body"]["n"], 2);
    }
    shell
        .say(&["task", "create", "--http", "http://a b"])
        .say(&["task", "create", "--http", "http://x:99999"])
        .say(&["task", "create", "--http", "http://x", "--method", "a b"])
        .say(&["task", "create", "--http", "http://x", "--header", "x"])
        .say(&["task", "create", "--http", "http://x", "--header", "a: 1", "--header", "A: 2"])
        .say(&["task", "create", "--http", "http://x", "--method", "GET", "--body", "x"])
        .say(&["task", "create", "--http", "http://x", "--body", "@missing"])
        .say(&["task", "create", "--kind", "k", "--method", "GET"])
        .say(&["task", "create", "--kind", "k", "--cron", "* * * * *"])
        .matches("http_flags");
}

#[test]
fn shells_complete_names_from_the_server() {
    let server = with_tasks();
    let ask = |url: &str, words: &[&str]| {
        let dir = TempDir::new().unwrap();
        let mut command = rota(dir.path());
        command
            .env("_ROTA_COMPLETE", "fish")
            .env("ROTA_URL", url)
            .arg("--")
            .arg("rota")
            .args(words);
        let output = command.output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let url = server.url();
    assert_eq!(ask(url, &["task", "get", "b"]), ["bad"]);
    assert_eq!(ask(url, &["task", "cancel", "bad", "lat"]), ["later"]);
    assert!(ask(url, &["task", "list", "--queue", ""]).contains(&"mail".to_owned()));
    assert!(ask(url, &["task", "create", "--kind", "no"]).contains(&"nobody".to_owned()));
    assert_eq!(ask(url, &["task", "list", "--status", "failed,ex"]), ["failed,expired"]);
    assert_eq!(ask(url, &["workers", "drain", "d"]), ["dev"]);
    // What needs no server.
    assert_eq!(ask(url, &["task", "list", "-o", "js"]), ["json", "jsonl"]);
    // Options that are typed already choose the server. One that does not answer completes nothing.
    assert_eq!(ask("http://127.0.0.1:1", &["--url", url, "task", "get", "b"]), ["bad"]);
    assert!(ask("http://127.0.0.1:1", &["task", "get", "b"]).is_empty());
}
