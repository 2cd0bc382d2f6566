//! Programs: what they are given, what is kept of what they print, and how they end.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use rota_worker::{
    Done, HandlerError, StopReason,
    executor::command::{CommandPolicy, run},
    testing::{TestAttempt, TestTask},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::unix::pipe,
};

use crate::in_time;

async fn run_as(
    policy: CommandPolicy,
    attempt: &TestAttempt,
    payload: &Value,
) -> Result<Done, HandlerError> {
    in_time(run(Arc::new(policy), attempt.context(), payload.to_string().into())).await
}

async fn run_one(payload: Value) -> Result<Done, HandlerError> {
    run_as(CommandPolicy::default(), &TestTask::new("command").begin(), &payload).await
}

fn stdout(done: &Done) -> String {
    let result: Value = serde_json::from_slice(&done.result).expect("JSON");
    assert_eq!(result["exit_code"], 0);
    result["stdout"].as_str().expect("a text").to_owned()
}

async fn prints(payload: Value) -> String {
    stdout(&run_one(payload).await.expect("exit code 0"))
}

/// A pipe with a name: whoever runs may write into it, and it ends when nobody can any more. So it
/// tells when the last process that has it open is gone, whoever its parent is.
struct Witness {
    path: PathBuf,
    lines: Lines<BufReader<pipe::Receiver>>,
    _dir: tempfile::TempDir,
}

impl Witness {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let receiver = pipe::OpenOptions::new().open_receiver(&path).unwrap();
        Self { path, lines: BufReader::new(receiver).lines(), _dir: dir }
    }

    async fn hear(&mut self) -> Option<String> {
        in_time(self.lines.next_line()).await.unwrap()
    }
}

/// A script in a shell, with the witness's path as `$1`.
fn script(text: &str, witness: &Path) -> Value {
    json!({"shell": "sh", "argv": [text, witness]})
}

#[tokio::test]
async fn a_program_gets_its_arguments_environment_directory_and_input() {
    let odd = "a b; $(echo c) `d` \"e\" 'f' * \\ \n ü";
    assert_eq!(prints(json!({"argv": ["printf", "%s|", odd, ""]})).await, format!("{odd}||"));
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap();
    assert_eq!(
        prints(json!({"argv": ["pwd", "-P"], "cwd": at})).await,
        format!("{}\n", at.display())
    );
    let input = "line\n".repeat(100_000);
    let counted = prints(json!({"argv": ["wc", "-c"], "stdin": input})).await;
    assert_eq!(counted.trim(), "500000");
    assert_eq!(prints(json!({"argv": ["cat"]})).await, "", "without input it has none");
    assert_eq!(
        prints(json!({"argv": ["true"], "stdin": input})).await,
        "",
        "input need not be read"
    );
}

#[tokio::test]
async fn the_environment_is_the_tasks_and_not_the_workers() {
    let attempt = TestTask::new("command").id("nightly").queue("q").attempt(3).lease_token(42);
    let attempt = attempt.begin();
    // The variables of the test runner, `CARGO_…` among them, must not get there.
    let payload =
        json!({"argv": ["env"], "env": {"A": "1 2", "ROTA_LEASE_TOKEN": "7", "TZ": "UTC"}});
    let printed = run_as(CommandPolicy::default(), &attempt, &payload).await.unwrap();
    let printed = stdout(&printed);
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.retain(|line| !["PATH=", "HOME=", "LANG="].iter().any(|name| line.starts_with(name)));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "A=1 2",
            "ROTA_ATTEMPT=3",
            "ROTA_KIND=command",
            "ROTA_LEASE_TOKEN=42",
            "ROTA_QUEUE=q",
            "ROTA_TASK_ID=nightly",
            "TZ=UTC",
        ]
    );
}

#[tokio::test]
async fn no_shell_is_involved_unless_it_is_asked_for_by_name() {
    let line = "echo $((1 + 1)) | tr 2 3";
    assert_eq!(prints(json!({"argv": ["printf", "%s", line]})).await, line);
    let error = run_one(json!({"argv": [line]})).await.unwrap_err();
    assert!(error.is_permanent(), "{}", error.message());
    assert_eq!(prints(json!({"argv": [line], "shell": "sh"})).await, "3\n");
    let given = json!({"argv": ["printf '%s,' \"$0\" \"$@\"", "a b", "$c"], "shell": "sh"});
    assert_eq!(prints(given).await, "sh,a b,$c,");
    for shell in ["perl", "/bin/sh", "", "sh -c"] {
        let error = run_one(json!({"argv": ["true"], "shell": shell})).await.unwrap_err();
        assert!(error.is_permanent(), "{shell}: {}", error.message());
    }
}

#[tokio::test]
async fn exit_codes_say_what_became_of_it() {
    for (script, permanent, message) in [
        ("exit 1", false, "exit code 1"),
        ("exit 75", false, "exit code 75: try again"),
        ("exit 255", false, "exit code 255"),
        ("kill -9 $$", false, "ended by signal 9"),
        (
            "exec no-such-program-anywhere",
            true,
            "exit code 127: the shell could not run the program",
        ),
    ] {
        let payload = json!({"shell": "sh", "argv": [format!("echo out; echo err >&2; {script}")]});
        let error = run_one(payload).await.unwrap_err();
        assert_eq!((error.is_permanent(), error.message()), (permanent, message));
        let tail = String::from_utf8_lossy(error.output_tail()).into_owned();
        assert!(tail.contains("out\n") && tail.contains("err\n"), "{script}: {tail}");
    }
}

#[tokio::test]
async fn what_cannot_be_run_fails_for_good_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("not-executable");
    std::fs::write(&text, "x").unwrap();
    for (payload, expected) in [
        (json!({"argv": ["no-such-program-anywhere"]}), "no such program"),
        (json!({"argv": ["/no/such/program"]}), "No such file"),
        (json!({"argv": [text]}), "ermission denied"),
        (json!({"argv": ["bin/true"]}), "must be a name or an absolute path"),
        (json!({"argv": ["../bin/true"], "cwd": "/usr/bin"}), "must be a name or an absolute path"),
        (json!({"argv": []}), "must name a program"),
        (json!({"argv": [""]}), "must name a program"),
        (json!({"argv": ["printf", "a\0b"]}), "NUL"),
        (json!({"argv": ["pr\0intf"]}), "NUL"),
        (json!({"argv": ["env"], "env": {"A": "\0"}}), "NUL"),
        (json!({"argv": ["env"], "env": {"A\0": ""}}), "NUL"),
        (json!({"argv": ["env"], "env": {"A=B": ""}}), "is not a name"),
        (json!({"argv": ["env"], "env": {"": "x"}}), "is not a name"),
        (json!({"argv": ["pwd"], "cwd": "/no/such/directory"}), "cwd: "),
        (json!({"argv": ["pwd"], "cwd": "/tmp\0"}), "NUL"),
        (json!({"argv": "pwd"}), "the payload is not a command"),
        (json!({"argv": ["pwd"], "user": "root"}), "unknown field `user`"),
        (json!(null), "the payload is not a command"),
    ] {
        let error = run_one(payload.clone()).await.unwrap_err();
        assert!(error.is_permanent(), "{payload}: {}", error.message());
        assert!(error.message().contains(expected), "{payload}: {}", error.message());
    }
}

#[tokio::test]
async fn only_allowed_programs_run() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("printf");
    std::fs::write(&own, "#!/bin/sh\necho mine\n").unwrap();
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o755)).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/bin/true", &link).unwrap();
    let allow = |programs: &[&str]| CommandPolicy {
        allowed_programs: Some(programs.iter().map(|&program| program.to_owned()).collect()),
    };
    let attempt = TestTask::new("command").begin();
    for (allowed, payload, may) in [
        (&["printf"][..], json!({"argv": ["printf", "x"]}), true),
        (&["printf"], json!({"argv": ["true"]}), false),
        (&[], json!({"argv": ["true"]}), false),
        // A name allows what the worker finds under it, not what the task puts in its place.
        (&["printf"], json!({"argv": [own]}), false),
        (&["/bin/true"], json!({"argv": ["true"]}), true),
        (&["/bin/true"], json!({"argv": [link]}), true),
        (&["/bin/true"], json!({"argv": [own]}), false),
        (&["/usr/bin/printf"], json!({"argv": ["usr/bin/printf"], "cwd": "/"}), false),
        // A shell is a program as well.
        (&["printf"], json!({"argv": ["printf x"], "shell": "sh"}), false),
        (&["printf"], json!({"argv": ["printf"], "env": {"LD_PRELOAD": "/tmp/x.so"}}), false),
        (&["sh"], json!({"argv": ["true"], "shell": "sh", "env": {"ENV": "/tmp/x"}}), false),
    ] {
        let outcome = run_as(allow(allowed), &attempt, &payload).await;
        assert_eq!(outcome.is_ok(), may, "{allowed:?}: {payload}: {outcome:?}");
        if let Err(error) = outcome {
            assert!(error.is_permanent(), "{payload}");
        }
    }
    // Its own search path changes what it finds itself, not which program is run.
    let payload = json!({"argv": ["printf", "system"], "env": {"PATH": dir.path()}});
    let done = run_as(allow(&["printf"]), &attempt, &payload).await.unwrap();
    assert_eq!(stdout(&done), "system");
}

#[tokio::test]
async fn what_is_kept_of_the_output_is_bounded() {
    let payload =
        json!({"argv": ["head -c 5000000 /dev/zero | tr '\\0' a; echo end"], "shell": "sh"});
    let done = run_one(payload).await.unwrap();
    let result: Value = serde_json::from_slice(&done.result).unwrap();
    assert_eq!(result["stdout_truncated"], true);
    assert_eq!(result["stdout"].as_str().unwrap().len(), 160 << 10, "its beginning");
    assert_eq!(done.output_tail.len(), 64 << 10);
    assert!(done.output_tail.ends_with(b"aend\n"), "its end");
    let noise = json!({"argv": ["head", "-c", "5000000", "/dev/zero"]});
    assert!(run_one(noise).await.unwrap().result.len() < 1 << 20, "as JSON too");
}

#[tokio::test]
async fn a_program_that_is_told_to_stop_can_say_goodbye() {
    for reason in [StopReason::Cancelled, StopReason::Timeout, StopReason::Draining] {
        let mut witness = Witness::new();
        let text =
            "exec 3>\"$1\"; trap 'echo bye >&3; exit 0' TERM; echo started >&3; sleep 600 & wait";
        let payload = script(text, &witness.path);
        let attempt = TestTask::new("command").begin();
        let running = run_as(CommandPolicy::default(), &attempt, &payload);
        let watch = async {
            assert_eq!(witness.hear().await.as_deref(), Some("started"));
            attempt.stop(reason);
            assert_eq!(witness.hear().await.as_deref(), Some("bye"));
            assert_eq!(witness.hear().await, None, "nobody of the group is left");
        };
        let (outcome, ()) = tokio::join!(running, watch);
        assert!(outcome.is_ok(), "it ended well: {outcome:?}");
    }
}

#[tokio::test]
async fn a_group_that_does_not_listen_is_killed_grandchildren_too() {
    let mut witness = Witness::new();
    let text = "exec 3>\"$1\"; trap '' TERM; \
                sh -c 'trap \"\" TERM; echo grandchild >&3; sleep 600' & \
                echo child >&3; sleep 600; wait";
    let payload = script(text, &witness.path);
    let attempt = TestTask::new("command").begin();
    let began = Instant::now();
    let running = run_as(CommandPolicy::default(), &attempt, &payload);
    let watch = async {
        let mut started = [witness.hear().await, witness.hear().await];
        started.sort();
        assert_eq!(started, [Some("child".to_owned()), Some("grandchild".to_owned())]);
        attempt.stop(StopReason::Timeout);
        assert_eq!(witness.hear().await, None, "nobody of the group is left");
    };
    let (outcome, ()) = tokio::join!(running, watch);
    assert_eq!(outcome.unwrap_err().message(), "ended by signal 9");
    assert!(began.elapsed().as_secs() >= 5, "it was asked first, and given its time");
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it_and_holds_nobody_up() {
    // It holds its parent's output open as well.
    let mut witness = Witness::new();
    let text = "exec 3>\"$1\"; sleep 600 & echo left >&3; echo done";
    let done = run_one(script(text, &witness.path)).await.unwrap();
    assert_eq!(stdout(&done), "done\n");
    assert_eq!(witness.hear().await.as_deref(), Some("left"));
    assert_eq!(witness.hear().await, None, "nobody of the group is left");
}

#[tokio::test]
async fn one_that_left_the_group_is_not_waited_for() {
    let mut witness = Witness::new();
    let text = "exec 3>\"$1\"; setsid sh -c 'echo $$ >&3; exec sleep 600' & \
                while ! kill -0 $! 2>/dev/null; do :; done; echo done; read line < \"$2\"";
    // The second pipe lets the parent go once the daemon has said its number.
    let go = witness.path.with_file_name("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let payload = json!({"shell": "sh", "argv": [text, witness.path, go]});
    let daemon = async {
        let daemon: i32 = witness.hear().await.expect("its number").parse().expect("a number");
        let go = tokio::task::spawn_blocking(move || std::fs::write(go, "go\n"));
        in_time(go).await.unwrap().unwrap();
        daemon
    };
    let (done, daemon) = tokio::join!(run_one(payload), daemon);
    assert_eq!(stdout(&done.unwrap()), "done\n");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon), nix::sys::signal::Signal::SIGKILL)
        .expect("it went its own way and lives");
}

#[tokio::test]
async fn a_dropped_attempt_leaves_no_process() {
    let mut witness = Witness::new();
    let text = "exec 3>\"$1\"; trap '' TERM; echo started >&3; sleep 600 & wait; sleep 600";
    let payload = script(text, &witness.path);
    let attempt = TestTask::new("command").begin();
    let running = run_as(CommandPolicy::default(), &attempt, &payload);
    tokio::select! {
        outcome = running => panic!("it ended: {outcome:?}"),
        started = witness.hear() => assert_eq!(started.as_deref(), Some("started")),
    }
    assert_eq!(witness.hear().await, None, "nobody of the group is left");
}
