//! The server does what its OpenAPI document says: schemathesis sends what fits it and what does
//! not, and finds no 5xx and no undocumented answer.
//!
//! `ROTA_TEST_EXAMPLES` says how many requests are tried for each operation, `ROTA_TEST_SEED`
//! chooses them.

use std::{env, process::Stdio};

use rota_tests::process::{Server, tool};
use tokio::process::Command;

/// What a schema cannot say is no fault: that two fields exclude each other, say. So nothing is
/// concluded from a request that fits and is refused, or the reverse. This server has no tokens, so it
/// takes requests with any.
const NOT_CHECKED: &str = "positive_data_acceptance,negative_data_rejection,ignored_auth";

/// A stream has no end, so each request for it would last until its timeout. The API's own tests follow it.
const NOT_CALLED: [&str; 2] = ["watch_events", "watch_output"];

#[tokio::test]
async fn every_answer_is_documented_and_none_is_a_5xx() {
    // Long polls are short, so that many requests take little time.
    let server = Server::start(&["--limits-wait", "1s"]).await;
    server.ready().await;
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let output = Command::new(tool("schemathesis/bin/schemathesis"))
        .args(["run", &format!("{}/openapi.json", server.url())])
        .args(["--checks", "all", "--exclude-checks", NOT_CHECKED])
        .args(NOT_CALLED.iter().flat_map(|id| ["--exclude-operation-id", *id]))
        .args(["--max-examples", &setting("ROTA_TEST_EXAMPLES", "25")])
        .args(["--seed", &setting("ROTA_TEST_SEED", "1")])
        // In one thread: in two, Python 3.11 can fail to parse a program (python/cpython#106905).
        .args(["--workers", "1", "--request-timeout", "10", "--max-redirects", "0", "--no-color"])
        .current_dir(server.home())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("schemathesis");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("passed"), "{report}");
    // It still serves, and nothing in it went wrong.
    server.ready().await;
    let logs = server.logs();
    let wrong: Vec<_> = logs.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
    assert_eq!(wrong, Vec::<&str>::new());
    assert!(server.stop().await.success());
}
