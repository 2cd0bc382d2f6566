//! What the programs of tasks cannot learn from the worker, and which lists are never everything.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::shell::{Server, Shell};

const TOKEN: &str = "a-secret-that-no-task-may-know";

#[test]
fn programs_cannot_read_the_workers_token() {
    let server = Server::start_with(&[("ROTA_API_TOKENS", TOKEN)]);
    let look = "echo looking; env; tr '\\0' '\\n' < /proc/$PPID/environ; \
                tr '\\0' '\\n' < /proc/$PPID/cmdline; ls -l /proc/$PPID/fd; ls /proc/self/fd; true";
    let payload = format!(r#"{{"shell": "sh", "argv": ["{}"]}}"#, look.replace('\\', r"\\"));
    let args = ["task", "create", "--wait", "--id", "look", "--kind", "command", "--payload"];
    let args = [&args[..], &[payload.as_str()]].concat();
    let token = [("ROTA_TOKEN", TOKEN)];
    let (code, _, stderr) = server.shell().run(&args, "", &token);
    assert_eq!(code, 0, "{stderr}");
    let (_, result, stderr) = server.shell().run(&["task", "result", "look"], "", &token);
    let result: serde_json::Value = serde_json::from_str(&result).expect(&stderr);
    let stdout = result["stdout"].as_str().expect("a text");
    assert!(stdout.contains("looking"), "{stdout}");
    for secret in [TOKEN, "memfd"] {
        assert!(!stdout.contains(secret), "{secret} is in\n{stdout}");
    }
    // Its own list of files, and the three standard ones.
    assert!(stdout.contains("\n0\n1\n2\n3\n"), "{stdout}");
}

#[test]
fn a_worker_with_a_wrong_token_ends_with_the_code_for_it() {
    let server = Server::start_with(&[("ROTA_API_TOKENS", TOKEN)]);
    let args = ["worker", "--log", "error"];
    let (code, stdout, stderr) = server.shell().run(&args, "", &[("ROTA_TOKEN", "another")]);
    assert_eq!((code, stdout.as_str()), (7, ""), "{stderr}");
    assert!(stderr.contains("the bearer token is not valid"), "{stderr}");
}

#[test]
fn an_empty_list_never_means_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Shell::alone(dir.path());
    let file = |text: &str| std::fs::write(dir.path().join("rota.toml"), text).unwrap();
    shell
        .say(&["worker", "--allow-command", "--allowed-programs", ""])
        .say(&["worker", "--allow-command", "--allowed-programs", " , "])
        .say_with(&["worker", "--allow-command"], "", &[("ROTA_ALLOWED_PROGRAMS", "")])
        .say_with(&["worker"], "", &[("ROTA_QUEUES", "")])
        .say_with(&["server"], "", &[("ROTA_API_TOKENS", "")]);
    file("allow_command = true\nallowed_programs = []\nqueues = []\n");
    shell.say(&["worker"]);
    file("allow_command = true\nallowed_programs = [\"/a,b\"]\n");
    shell.say(&["worker"]);
    file("");
    shell
        .say(&["worker", "--allow-command", "--allowed-programs", "bin/ls"])
        .say(&["worker", "--allow-command", "--allowed-env", "A B"])
        .say(&["config", "--http-allowed-hosts", "[::1],10.0.0.1,localhost:80"])
        .say(&["worker", "--allow-command", "--command-user", "no-such-user", "--log", "error"])
        .say(&["worker", "--allowed-env", "A", "--command-user", "nobody"]);
    shell.matches("empty_lists");
}

#[test]
fn a_variable_that_is_not_utf_8_stops_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["server"][..], &["worker"], &["config"], &["task", "list"], &["info"]] {
        let wrong = OsStr::from_bytes(b"abcdefghijklmnopq\xff");
        let output = crate::shell::rota(dir.path())
            .env("ROTA_API_TOKENS", wrong)
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("ROTA_API_TOKENS is not UTF-8"), "{said}");
        assert!(!said.contains("abcdef"), "{said}");
    }
}
