//! `rota task logs`: the output of a task, also while it runs.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::shell::{Server, rota};

/// A pipe with a name, from which a program reads a line when the test lets it go on.
struct Gate {
    path: PathBuf,
    file: File,
}

impl Gate {
    fn new(server: &Server, name: &str) -> Self {
        let path = server.dir().join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Self { path, file }
    }

    fn open(&mut self) {
        self.file.write_all(b"go\n").unwrap();
    }
}

/// Creates a task that runs this script, with the gate as `$1`.
fn create(server: &Server, id: &str, attempts: &str, script: &str, gate: &Gate) {
    let path = gate.path.to_str().unwrap();
    let flags = ["task", "create", "--id", id, "--command", "--max-attempts", attempts];
    let retry = ["--backoff-initial", "1ms", "--", "sh", "-c", script, "sh", path];
    server.shell().quietly(&[&flags[..], &retry].concat());
}

fn follow(server: &Server, args: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = rota(server.dir())
        .env("ROTA_URL", server.url())
        .args(["task", "logs"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn line(out: &mut impl BufRead) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line
}

/// The exit code, and the rest of both outputs.
fn ended(mut child: Child, mut out: impl Read) -> (i32, String, String) {
    let (mut rest, mut errors) = (String::new(), String::new());
    out.read_to_string(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    (child.wait().unwrap().code().unwrap(), rest, errors)
}

#[test]
fn output_is_printed_as_it_comes_and_the_exit_code_is_that_of_a_wait() {
    let server = Server::start().ready();
    let mut gate = Gate::new(&server, "gate");
    let script = "echo one; read line < \"$1\"; echo two; exit 3";
    create(&server, "job", "1", script, &gate);
    let (child, mut out) = follow(&server, &["-f", "job"]);
    assert_eq!(line(&mut out), "one\n", "while the program waits");
    // Without -f, what there is now.
    let (code, now, errors) = server.shell().run(&["task", "logs", "job"], "", &[]);
    assert_eq!((code, now.as_str(), errors.as_str()), (0, "one\n", ""));
    gate.open();
    let (code, rest, errors) = ended(child, out);
    assert_eq!((code, rest.as_str()), (6, "two\n"), "{errors}");
    assert!(errors.contains("job failed: exit code 3"), "{errors}");
    // Afterwards, what was kept.
    let (code, kept, _) = server.shell().run(&["task", "logs", "job"], "", &[]);
    assert_eq!((code, kept.as_str()), (0, "one\ntwo\n"));
    let last = ["task", "logs", "-f", "--tail", "1", "job"];
    let (code, last, _) = server.shell().run(&last, "", &[]);
    assert_eq!((code, last.as_str()), (6, "two\n"));
}

#[test]
fn it_waits_for_the_task_and_says_which_attempt_writes() {
    let server = Server::start().ready();
    let mut gate = Gate::new(&server, "gate");
    let script = "echo \"$ROTA_ATTEMPT\"; read line < \"$1\"; exit $((2 - ROTA_ATTEMPT))";
    server.shell().quietly(&["queue", "pause", "default"]);
    create(&server, "job", "2", script, &gate);
    let (mut child, mut out) = follow(&server, &["-f", "job"]);
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let said = line(&mut errors);
    assert!(said.starts_with("job: ") && said.contains("paused"), "{said}");
    server.shell().quietly(&["queue", "resume", "default"]);
    assert_eq!(line(&mut out), "1\n");
    gate.open();
    assert_eq!(line(&mut out), "2\n");
    while line(&mut errors) != "attempt 2 on dev\n" {}
    gate.open();
    assert_eq!(line(&mut out), "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn programs_read_a_json_object_a_line() {
    let server = Server::start().ready();
    let mut gate = Gate::new(&server, "gate");
    let script = "printf 'a\\033[2J\\377'; read line < \"$1\"";
    create(&server, "job", "1", script, &gate);
    let (child, mut out) = follow(&server, &["-f", "job", "-o", "json"]);
    let mut next = || -> serde_json::Value { serde_json::from_str(&line(&mut out)).unwrap() };
    assert_eq!(next()["type"], "attempt");
    let mut output = next();
    if output["type"] == "ready" {
        output = next();
    }
    assert_eq!((&output["type"], &output["offset"]), (&"output".into(), &0.into()));
    assert_eq!(output["output_base64"], "YRtbMkr/");
    gate.open();
    let mut last = next();
    while last["type"] != "end" {
        last = next();
    }
    assert_eq!((&last["reason"], &last["status"]), (&"task_ended".into(), &"completed".into()));
    assert_eq!(ended(child, out).0, 0);
}

#[test]
fn a_task_that_is_not_there_is_not_found() {
    let server = Server::start().ready();
    for args in [&["task", "logs", "nobody"][..], &["task", "logs", "-f", "nobody"]] {
        let (code, out, errors) = server.shell().run(args, "", &[]);
        assert_eq!((code, out.as_str()), (3, ""), "{errors}");
    }
}
