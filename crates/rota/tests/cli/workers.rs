//! `rota workers` and `rota info`.

use crate::shell::Server;

#[test]
fn workers_are_seen_and_drained() {
    let server = Server::start().ready();
    server
        .shell()
        .say(&["workers", "list"])
        .say(&["workers", "list", "-o", "json"])
        .say(&["info"])
        .say(&["workers", "drain", "nobody"])
        .say(&["workers", "drain", "dev"])
        .matches("workers");
    // The server goes on without its worker.
    let mut shell = server.shell();
    while shell.quietly(&["workers", "list", "-o", "json"]).contains("\"name\": \"dev\"") {}
    shell.quietly(&["task", "create", "--kind", "k"]);
}
