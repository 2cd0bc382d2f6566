//! `rota queue`.

use crate::shell::Server;

#[test]
fn queues_are_seen_paused_and_resumed() {
    let server = Server::start().ready();
    server
        .shell()
        .say(&["queue", "list"])
        .say(&["queue", "pause", "mail", "--note", "migration", "--by", "ada@mars"])
        .say(&["task", "create", "--queue", "mail", "--id", "held", "--kind", "nobody"])
        .say(&["task", "get", "held"])
        .say(&[
            "task",
            "create",
            "--queue",
            "files",
            "--wait",
            "--id",
            "done",
            "--command",
            "--",
            "true",
        ])
        .say(&["queue", "list"])
        .say(&["queue", "list", "-o", "json"])
        .say(&["queue", "resume", "mail", "-o", "json"])
        .say(&["queue", "get", "mail"])
        .say(&["queue", "get", "letters"])
        .matches("queue");
}
