//! A data directory belongs to one process at a time.

use rota_tests::process::{PATIENCE, Server, command};
use tokio::time::timeout;

#[tokio::test]
async fn a_second_process_on_the_directory_gets_a_clear_error() {
    let mut server = Server::start(&[]).await;
    let data = server.home().join("data");
    let store = format!("file:{}", data.display());
    let second = || {
        let arguments = ["server", "--listen", "127.0.0.1:0", "--store", &store];
        let output = command(&arguments, server.home()).output();
        async move { timeout(PATIENCE, output).await.expect("it ends").expect("it can be started") }
    };
    let refused = second().await;
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    let place = data.display().to_string();
    for word in [place.as_str(), "another process", "--store file:"] {
        assert!(words.contains(word), "{words:?} lacks {word:?}");
    }
    assert!(!words.contains("panicked"), "{words}");

    // The one that has it does not mind, and a killed process does not keep it.
    server.ready().await;
    server.kill_and_restart().await;
    server.ready().await;
    assert!(server.stop().await.success());
}
