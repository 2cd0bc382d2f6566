//! `rota config`, the limits of a server, completions and help.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use serde_json::Value;

use crate::shell::{Server, Shell, rota};

#[test]
fn settings_are_shown_with_where_they_come_from_and_secrets_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = "slots = 3\ntoken = \"from-the-file-and-secret\"\n[limits]\nbatch = 7\n";
    std::fs::write(dir.path().join("rota.toml"), file).unwrap();
    let mut shell = Shell::alone(dir.path());
    let variables = [("ROTA_LISTEN", "127.0.0.1:9")];
    // There are many keys, and most are as they come.
    let untold = |line: &str| line.ends_with(" default") && !line.starts_with("store ");
    shell.say_with(&["config", "--node", "n1"], "", &variables).without(untold);
    let missing = "/no/such/file.toml";
    shell.say(&["config", "-o", "json", "--config", missing]);
    std::fs::write(dir.path().join("rota.toml"), "slotts = 3\n").unwrap();
    shell.say(&["config"]);
    std::fs::write(dir.path().join("rota.toml"), "slots = \n").unwrap();
    shell.say(&["config"]).matches("config");
}

#[test]
fn values_that_no_key_takes_are_refused_with_key_source_and_range() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Shell::alone(dir.path());
    let file = |text: &str| std::fs::write(dir.path().join("rota.toml"), text).unwrap();
    file("slots = \"x\"\nsession_ttl = 5\n[limits]\nbatch = -4\n");
    // Each process looks at the keys that it heeds.
    for process in ["config", "server", "worker", "dev"] {
        shell.say(&[process]);
    }
    file("[limit]\n");
    shell.say(&["config"]);
    file("");
    shell
        .say(&["server", "--limits-batch", "0"])
        .say(&["server", "--limits-batch", "-1"])
        .say(&["server", "--session-ttl", "-5s"])
        .say(&["server", "--limits-name-characters", "129"])
        .say(&["server", "--limits-json-depth", "128"])
        .say(&["server", "--limits-event-listeners", "0"])
        .say(&["server", "--limits-event-buffer-bytes", "1000"])
        .say(&["server", "--limits-event-keep", "60"])
        .say(&["server", "--limits-output-listeners-per-task", "many"])
        .say(&["server", "--metrics-open=perhaps"])
        .say(&["dev", "--log-format", "xml"])
        .say(&["worker", "--slots", "0"])
        .say(&["worker", "--queues", "a,b c"])
        .say(&["worker", "--allowed-programs", "ls"])
        .say_with(&["server"], "", &[("ROTA_LIMITS_BATCH", "junk")])
        .say_with(&["config"], "", &[("ROTA_API_TOKENS", "short")])
        .say_with(&["config", "-o", "json"], "", &[("ROTA_SLOTS", "many")]);
    let untold = |line: &str| line.ends_with(" default");
    shell.say_with(&["config"], "", &[("ROTA_LIMITS_BACH", "7")]).without(untold);
    shell.matches("settings_refused");
}

#[test]
fn limits_of_listeners_are_settings_and_info_shows_each_limit() {
    let server = Server::start_with(&[
        ("ROTA_LIMITS_EVENT_LISTENERS", "1"),
        ("ROTA_LIMITS_EVENT_BUFFER_BYTES", "65537"),
        ("ROTA_LIMITS_EVENT_KEEP", "2m"),
        ("ROTA_LIMITS_OUTPUT_LISTENERS", "2"),
        ("ROTA_LIMITS_OUTPUT_LISTENERS_PER_TASK", "3"),
        ("ROTA_LIMITS_OUTPUT_BUFFER_BYTES", "65538"),
    ]);
    let mut shell = server.shell();
    let mut json = |args: &[&str]| -> Value {
        serde_json::from_str(&shell.quietly(&[args, &["-o", "json"]].concat())).unwrap()
    };
    let limits = json(&["info"])["limits"].clone();
    for (name, expected) in [
        ("event_listeners", 1),
        ("event_buffer_bytes", 65_537),
        ("event_keep_ms", 120_000),
        ("output_listeners", 2),
        ("output_listeners_per_task", 3),
        ("output_buffer_bytes", 65_538),
    ] {
        assert_eq!(limits[name], expected, "{name}");
    }
    let config = json(&["config"]);
    for key in config.as_object().unwrap().keys() {
        if let Some(limit) = key.strip_prefix("limits.") {
            let shown = [limit.to_owned(), format!("{limit}_ms")];
            assert!(
                shown.iter().any(|name| limits[name].is_number()),
                "{limit} is not in {limits}"
            );
        }
    }
    let mut listens = rota(server.dir());
    let mut listens =
        listens.env("ROTA_URL", server.url()).arg("events").stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(listens.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("waiting for events") {
        assert!(errors.read_line(&mut said).unwrap() > 0, "{said}");
    }
    let (code, _, stderr) = shell.run(&["events"], "", &[]);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("1 listeners") && stderr.contains("event_listeners"), "{stderr}");
    listens.kill().unwrap();
    listens.wait().unwrap();
}

#[test]
fn each_shell_gets_completions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = Shell::alone(dir.path()).quietly(&["completions", shell]);
        assert!(script.contains("_ROTA_COMPLETE") && script.contains("rota"), "{shell}: {script}");
        // A package puts the script into a file that zsh loads at the first completion.
        assert_eq!(script.contains("funcstack"), shell == "zsh", "{script}");
    }
}

#[test]
fn help_names_the_verbs_and_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    Shell::alone(dir.path())
        .say(&["--help"])
        .say(&["task", "--help"])
        .say(&["task", "create", "--help"])
        .say(&["worker", "--help"])
        .matches("help");
}
