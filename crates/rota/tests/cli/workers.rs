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
}
