//! Programs: what they are given, what is kept of what they print, and how they end.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use rota_worker::{
    Done, HandlerError, StopReason,
    executor::command::{CommandPolicy, CommandUser, CommandUserError, run},
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

#[tokio::test]
async fn a_variable_that_is_given_twice_is_refused() {
    let payload = r#"{"argv":["true"],"env":{"A":"1","A":"2"}}"#;
    let attempt = TestTask::new("command").begin();
    let policy = Arc::new(CommandPolicy::default());
    let error = in_time(run(policy, attempt.context(), payload.into())).await.unwrap_err();
    assert!(error.is_permanent());
    assert!(error.message().contains(r#"the name "A" is given twice"#), "{}", error.message());
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
async fn a_program_of_a_schedule_learns_its_times() {
    let at = |hours: u64| UNIX_EPOCH + Duration::from_secs(1_772_953_200 + hours * 3600);
    let first = TestTask::new("command").tick("backups/daily", at(24));
    let payload = json!({"argv": ["env"], "env": {
        "ROTA_NOMINAL_TIME": "mine", "OF": "{{nominal_time}} {{last_success_time}}", "GO": "{{.Names}}",
    }});
    let mut seen = Vec::new();
    for test in [first.clone(), first.earlier_ticks(at(0), at(0))] {
        let printed = run_as(CommandPolicy::default(), &test.begin(), &payload).await.unwrap();
        let printed = stdout(&printed);
        let times = |line: &&str| {
            let (name, _) = line.split_once('=').expect("a variable");
            matches!(name, "OF" | "GO" | "ROTA_SCHEDULE") || name.ends_with("_TIME")
        };
        let mut lines: Vec<String> = printed.lines().filter(times).map(str::to_owned).collect();
        lines.sort_unstable();
        let actual = lines.iter().position(|line| line.starts_with("ROTA_ACTUAL_TIME=20"));
        lines.remove(actual.expect("the start of the attempt"));
        seen.push(lines);
    }
    let (nominal, before) = ("2026-03-09T07:00:00Z", "2026-03-08T07:00:00Z");
    let expected = [
        "GO={{.Names}}".to_owned(),
        format!("OF={nominal} "),
        format!("ROTA_NOMINAL_TIME={nominal}"),
        "ROTA_SCHEDULE=backups/daily".to_owned(),
    ];
    assert_eq!(seen[0], expected);
    let expected = [
        "GO={{.Names}}".to_owned(),
        format!("OF={nominal} {before}"),
        format!("ROTA_LAST_SUCCESS_TIME={before}"),
        format!("ROTA_NOMINAL_TIME={nominal}"),
        format!("ROTA_PREVIOUS_TIME={before}"),
        "ROTA_SCHEDULE=backups/daily".to_owned(),
    ];
    assert_eq!(seen[1], expected);
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
        ("exit 75", false, "exit code 75 (temporary failure)"),
        ("exit 255", false, "exit code 255"),
        ("kill -9 $$", false, "killed by signal 9"),
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
async fn a_program_puts_its_task_off_by_the_exit_code_that_the_task_names() {
    let snooze = json!({"exit_code": 99, "delay": "5m"});
    let run = async |code: u32| {
        let script = format!("exit {code}");
        run_one(json!({"shell": "sh", "argv": [script], "snooze": snooze})).await.unwrap_err()
    };
    assert_eq!(run(99).await.snoozed_for(), Some(Duration::from_secs(300)));
    assert_eq!(run(75).await.snoozed_for(), None);
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
        (json!({"argv": []}), "must have at least a program"),
        (json!({"argv": [""]}), "must have at least a program"),
        (json!({"argv": ["printf", "a\0b"]}), "NUL"),
        (json!({"argv": ["pr\0intf"]}), "NUL"),
        (json!({"argv": ["env"], "env": {"A": "\0"}}), "NUL"),
        (json!({"argv": ["env"], "env": {"A\0": ""}}), "NUL"),
        (json!({"argv": ["env"], "env": {"A=B": ""}}), "is not a valid variable name"),
        (json!({"argv": ["env"], "env": {"": "x"}}), "is not a valid variable name"),
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

fn only(programs: &[&str]) -> CommandPolicy {
    let allowed_programs = Some(programs.iter().map(|&program| program.to_owned()).collect());
    CommandPolicy { allowed_programs, ..CommandPolicy::default() }
}

#[tokio::test]
async fn variables_do_not_turn_an_allowed_program_into_another() {
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("tool");
    std::fs::write(&tool, "#!/bin/bash\nx() { echo tool; }\nx; echo \"[$GREETING]\"\n").unwrap();
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).unwrap();
    let attempt = TestTask::new("command").begin();
    let policy = only(&[tool.to_str().unwrap()]);
    for name in [
        "BASH_FUNC_x%%",
        "SHELLOPTS",
        "PS4",
        "PERL5OPT",
        "NODE_OPTIONS",
        "PYTHONWARNINGS",
        "BROWSER",
        "PATH",
        "GCONV_PATH",
        "LD_PRELOAD",
        "BASH_ENV",
        "ENV",
        "IFS",
        "HOME",
        "GREETING",
        "TZ",
    ] {
        let payload = json!({"argv": [tool], "env": {name: "() { :; }"}});
        let error = run_as(policy.clone(), &attempt, &payload).await.unwrap_err();
        assert!(error.is_permanent(), "{name}");
        let said = error.message();
        assert!(said.contains(name) && said.contains("allowed_env"), "{said}");
    }
    let payload = json!({"argv": [tool], "env": {"GREETING": "hi"}});
    let allowed_env = Some(vec!["GREETING".to_owned()]);
    let lists = CommandPolicy { allowed_env, ..policy };
    let done = run_as(lists.clone(), &attempt, &payload).await.unwrap();
    assert_eq!(stdout(&done), "tool\n[hi]\n");
    // A list holds for any programs.
    let any = CommandPolicy { allowed_programs: None, ..lists };
    assert!(run_as(any.clone(), &attempt, &payload).await.is_ok());
    let path = json!({"argv": ["true"], "env": {"PATH": "/tmp"}});
    assert!(run_as(any, &attempt, &path).await.is_err());
}

#[tokio::test]
async fn names_of_variables_are_names() {
    let long = "N".repeat(257);
    for name in ["", "A=B", "A\nB", "A\u{1b}[2J", "A B", "\u{fc}", long.as_str()] {
        let payload = json!({"argv": ["env"], "env": {name: "x"}});
        let error = run_one(payload).await.unwrap_err();
        assert!(error.is_permanent());
        let said = error.message();
        assert!(said.contains("is not a valid variable name") && said.len() < 500, "{said}");
        assert!(!said.contains(['\n', '\u{1b}']), "{said:?}");
    }
    let most = "N".repeat(256);
    assert!(run_one(json!({"argv": ["true"], "env": {most: "x", "A.b-c": ""}})).await.is_ok());
}

#[tokio::test]
async fn a_link_under_another_name_is_another_program() {
    // As busybox: which program it is depends on the name under which it is started.
    let dir = tempfile::tempdir().unwrap();
    let [zip, shell] = ["zip", "shell"].map(|name| dir.path().join(name));
    for link in [&zip, &shell] {
        std::os::unix::fs::symlink("/bin/echo", link).unwrap();
    }
    let attempt = TestTask::new("command").begin();
    let policy = only(&[zip.to_str().unwrap(), "/no/such/program"]);
    let run = |program: PathBuf| {
        let (policy, attempt) = (policy.clone(), &attempt);
        async move { run_as(policy, attempt, &json!({"argv": [program, "x"]})).await.is_ok() }
    };
    assert!(run(zip.clone()).await);
    assert!(!run(shell).await);
    assert!(!run("/no/other/program".into()).await);
    // By another way to the same directory it is the same.
    let way = dir.path().join("way");
    std::os::unix::fs::symlink(dir.path(), &way).unwrap();
    assert!(run(way.join("zip")).await);
}

#[tokio::test]
async fn a_script_that_is_too_long_says_so_and_how_to_run_it() {
    let script = format!("echo hi; exit 0 # {}", "x".repeat(140_000));
    let payload = json!({"shell": "sh", "argv": [script]});
    let error = run_one(payload).await.unwrap_err();
    assert!(error.is_permanent());
    let said = error.message();
    assert!(said.starts_with("sh: the script has 1400"), "{said}");
    assert!(said.contains("stdin") && said.len() < 500, "{said}");
    // As it says.
    assert_eq!(prints(json!({"argv": ["sh", "-s", "a"], "stdin": script})).await, "hi\n");
    let error = run_one(json!({"argv": ["echo", "x".repeat(140_000)]})).await.unwrap_err();
    assert!(error.message().starts_with("echo: argv[1] has 140000 bytes"), "{}", error.message());
    let many = vec!["x".repeat(100_000); 40];
    let payload = json!({"argv": ["echo"], "env": {"A": "b"}, "stdin": "", "cwd": "/"});
    let mut payload = payload.as_object().unwrap().clone();
    payload["argv"].as_array_mut().unwrap().extend(many.into_iter().map(Value::from));
    let error = run_one(payload.into()).await.unwrap_err();
    assert!(error.message().contains("together"), "{}", error.message());
    let error = run_one(json!({"argv": [format!("/{}", "x".repeat(5000))]})).await.unwrap_err();
    assert!(error.is_permanent() && error.message().len() < 500, "{}", error.message());
}

#[tokio::test]
async fn output_that_is_not_text_is_kept_byte_for_byte() {
    let done = run_one(json!({"argv": ["printf", "a\\377\\000"]})).await.unwrap();
    let result: Value = serde_json::from_slice(&done.result).unwrap();
    assert_eq!((&result["stdout"], &result["stdout_encoding"]), (&json!("Yf8A"), &json!("base64")));
    assert_eq!(done.output_tail[..], *b"a\xff\x00");
    let done = run_one(json!({"argv": ["printf", "grüße"]})).await.unwrap();
    let result: Value = serde_json::from_slice(&done.result).unwrap();
    assert_eq!((&result["stdout"], &result["stdout_encoding"]), (&json!("grüße"), &Value::Null));
}

#[tokio::test]
async fn one_pipe_keeps_the_order_of_both_outputs() {
    let script = "i=0; while [ $i -lt 300 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
    let payload = json!({"shell": "sh", "argv": [script], "merge_stderr": true});
    let done = run_one(payload).await.unwrap();
    let expected: String = (0..300).map(|i| format!("o{i}\ne{i}\n")).collect();
    assert_eq!(stdout(&done), expected);
    assert_eq!(done.output_tail, expected);
    let failed =
        json!({"shell": "sh", "argv": ["echo o; echo e >&2; exit 1"], "merge_stderr": true});
    assert_eq!(run_one(failed).await.unwrap_err().output_tail(), "o\ne\n");
}

#[tokio::test]
async fn programs_can_run_as_another_user() {
    let nobody = match CommandUser::named("nobody") {
        Ok(nobody) => nobody,
        // Only root may.
        Err(error) => return assert!(matches!(error, CommandUserError::NotRoot(_)), "{error}"),
    };
    let attempt = TestTask::new("command").begin();
    let policy = CommandPolicy { user: Some(nobody), ..CommandPolicy::default() };
    let script =
        "id -un; id -G | wc -w; echo $USER $LOGNAME; test -r /proc/$PPID/environ || echo hidden";
    let payload = json!({"shell": "sh", "argv": [script], "cwd": "/"});
    let done = run_as(policy, &attempt, &payload).await.unwrap();
    assert_eq!(stdout(&done), "nobody\n1\nnobody nobody\nhidden\n");
    let error = CommandUser::named("no-such-user").unwrap_err();
    assert!(error.to_string().contains("no-such-user"), "{error}");
}

#[tokio::test]
async fn only_allowed_programs_run() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("printf");
    std::fs::write(&own, "#!/bin/sh\necho mine\n").unwrap();
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o755)).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/bin/true", &link).unwrap();
    let allow = only;
    let attempt = TestTask::new("command").begin();
    for (allowed, payload, may) in [
        (&["printf"][..], json!({"argv": ["printf", "x"]}), true),
        (&["printf"], json!({"argv": ["true"]}), false),
        (&[], json!({"argv": ["true"]}), false),
        // A name allows what the worker finds under it, not what the task puts in its place.
        (&["printf"], json!({"argv": [own]}), false),
        (&["/bin/true"], json!({"argv": ["true"]}), true),
        (&["/bin/true"], json!({"argv": ["/bin/true"]}), true),
        (&["/bin/true"], json!({"argv": [link]}), false),
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
    assert_eq!(outcome.unwrap_err().message(), "killed by signal 9");
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
