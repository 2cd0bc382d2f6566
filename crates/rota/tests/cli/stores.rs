//! `rota store`, on embedded stores.

use crate::shell::{Server, Shell};

/// A directory with the store `data` of a server that has ended.
fn stored() -> tempfile::TempDir {
    let mut server = Server::start().ready();
    let mut shell = server.shell();
    shell.quietly(&[
        "task",
        "create",
        "--kind",
        "nobody",
        "--id",
        "waiting",
        "--payload",
        "{\"a\": 1}",
    ]);
    shell.quietly(&["task", "create", "--kind", "nobody", "--id", "cancelled"]);
    shell.quietly(&["task", "cancel", "cancelled"]);
    shell.quietly(&["queue", "pause", "mail", "--by", "ada@mars"]);
    // It is raised within seconds, and is one more record.
    while !shell.quietly(&["info", "-o", "json"]).contains("\"cluster_feature_level\": 2") {}
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    std::fs::rename(server.dir().join("rota-data"), dir.path().join("data")).unwrap();
    dir
}

#[test]
fn stores_are_copied_checked_exported_imported_and_dumped() {
    let dir = stored();
    Shell::alone(dir.path())
        .say(&["store", "check", "file:data"])
        .say(&["store", "copy", "file:data", "file:copy"])
        .say(&["store", "copy", "file:data", "file:copy"])
        .say(&["store", "export", "backup.jsonl", "file:copy", "-o", "json"])
        .say(&["store", "import", "backup.jsonl", "file:restored"])
        .say_with(&["store", "dump", "--prefix", "spec/"], "", &[("ROTA_STORE", "file:restored")])
        .say(&["store", "dump", "file:restored", "--prefix", "queue/", "-o", "json"])
        .matches("stores");
    let file = std::fs::read_to_string(dir.path().join("backup.jsonl")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("backup.jsonl")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "it has payloads");
    assert!(!dir.path().join("backup.jsonl.part").exists());
    // Standard output and input.
    let shell = Shell::alone(dir.path());
    let (code, exported, said) = shell.run(&["store", "export", "-", "file:copy"], "", &[]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(
        exported.lines().skip(1).collect::<Vec<_>>()[..5],
        file.lines().skip(1).collect::<Vec<_>>()[..5]
    );
    let (code, _, said) = shell.run(&["store", "import", "-", "file:piped"], &exported, &[]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn what_a_store_command_refuses_is_told_with_what_to_do() {
    let dir = stored();
    let shell = &mut Shell::alone(dir.path());
    shell.quietly(&["store", "export", "backup.jsonl", "file:data"]);
    let whole = std::fs::read_to_string(dir.path().join("backup.jsonl")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let damaged = format!(
        "{}\n{}\n{}\n",
        lines[0],
        lines[1],
        lines[2].replace("\"value\":\"", "\"value\":\"A")
    );
    std::fs::write(dir.path().join("damaged.jsonl"), damaged).unwrap();
    std::fs::write(dir.path().join("cut.jsonl"), format!("{}\n{}\n", lines[0], lines[1])).unwrap();
    std::fs::write(dir.path().join("password"), "\n").unwrap();
    shell
        .say(&["store", "copy", "file:data", "file:data"])
        .say(&["store", "copy", "file:nothing", "file:copy"])
        .say(&["store", "copy", "data", "file:copy"])
        .say(&["store", "copy", "file:data", "file:copy", "--store", "file:x"])
        .say(&["store", "copy", "file:data", "etcd://127.0.0.1:1?password=hunter2"])
        .say(&["store", "copy", "file:data", "etcd://127.0.0.1:1?user=u&password_file=password"])
        .say(&["store", "check", "file:nothing", "-o", "json"])
        .say(&["store", "dump", "file:data", "--prefix", "tasks/"])
        .say(&["store", "export", "backup.jsonl", "file:data"])
        .say(&["store", "import", "damaged.jsonl", "file:copy"])
        .say(&["store", "import", "cut.jsonl", "file:copy"])
        .say_with(&["store", "import", "-", "file:copy"], "{}\n", &[])
        .say(&["store", "import", "backup.jsonl", "file:data"])
        .matches("stores_refused");
}
