//! What goes wrong says so, says what to do, and ends with the code that was promised.

use crate::shell::{Server, Shell};

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    Shell::alone(dir.path())
        .say(&["task", "list", "--url", "http://127.0.0.1:1"])
        .say(&["task", "list", "--url", "127.0.0.1"])
        .say(&["worker", "--url", "nonsense"])
        .matches("unreachable");
}

#[test]
fn what_is_unknown_or_wrong_is_named() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    shell.quietly(&["task", "create", "--id", "mine", "--kind", "nobody"]);
    shell
        .say(&["task", "get", "no-such-task"])
        .say(&["task", "get", "not a name"])
        .say(&["task", "create", "--id", "mine", "--kind", "somebody"])
        .say(&["task", "create", "--kind", "a b", "--priority", "12"])
        .say(&["task", "create", "--kind", "k", "--payload", "{"])
        .say(&["task", "create", "--kind", "k", "--label", "x"])
        .say(&["task", "create", "--kind", "k", "--delay", "soon"])
        .say(&["task", "create", "--kind", "k", "--delay", "5"])
        .say(&["task", "create", "--kind", "k", "--payload", "@/nonexistent"])
        .say(&["task", "create", "--kind", "k", "--priority", "-1"])
        .say(&["task", "create"])
        .say(&["task", "get", "no-such-task", "-o", "json"])
        .say(&["task", "list", "--colour", "-o", "json"])
        .say(&["worker", "list"])
        .say(&["task", "list", "--status", "sleeping"])
        .say(&["task", "delete", "mine"])
        .say(&["task", "retry", "mine"])
        .say(&["task", "list", "--url", "http://127.0.0.1:1", "--colour"])
        .say(&["tusk"])
        .matches("errors");
}

#[test]
fn a_token_that_is_missing_or_wrong_is_said_so() {
    let server = Server::start_with(&[("ROTA_API_TOKENS", "0123456789abcdef")]);
    let with = |token| [("ROTA_TOKEN", token)];
    server
        .shell()
        .say(&["task", "list"])
        .say_with(&["task", "list"], "", &with("fedcba9876543210"))
        .say_with(&["task", "list"], "", &with("0123456789abcdef"))
        .say(&["task", "list", "-o", "json"])
        .matches("tokens");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let server = Server::start().ready();
    // The directory of that server is in use, and so would its port be.
    server
        .shell()
        .say(&["server", "--listen", "127.0.0.1:0", "--log", "off"])
        .say(&["server", "--store", "file:other", "--listen", "0.0.0.0:0", "--log", "off"])
        .say(&["server", "--store", "mysql://localhost/x", "--log", "off"])
        .say(&["server", "--store", "file:other", "--listen", "nowhere", "--log", "off"])
        .say(&["server", "--store", "file:other", "--limits-batch", "many", "--log", "off"])
        .matches("cannot_start");
}
