//! Who may pass.

use http::Request;
use http_body_util::Full;
use rota_engine::EngineOptions;
use rota_proto::v1::{GetServerInfoRequest, server_service_client::ServerServiceClient};
use rota_server::{Limits, ServeError, Server, ServerOptions, Tokens};
use tonic::Code;

use crate::harness::Node;

const TOKEN: &str = "a-token-of-this-test";

async fn with_token() -> Node {
    let tokens = Tokens::new([TOKEN.to_owned()]).unwrap();
    let options = ServerOptions { tokens, ..ServerOptions::default() };
    Node::start_with(EngineOptions::default(), options).await
}

#[tokio::test]
async fn with_a_token_rest_is_open_to_its_bearer_alone() {
    let node = with_token().await;
    let answer = node.get("/v1/tasks").await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(answer.problem()["reason"], "unauthenticated");
    let ask = |token: &str| {
        // Only who leads can answer this: then the node is ready.
        let request = Request::get("/v1/queues").header("authorization", format!("Bearer {token}"));
        node.send(request.body(Full::default()).unwrap())
    };
    assert_eq!(ask("another-token-of-it").await.status, 401);
    assert_eq!(ask(TOKEN).await.status, 200);
    for path in ["/healthz", "/readyz", "/openapi.json", "/docs"] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn with_a_token_grpc_is_open_to_its_bearer_alone() {
    let node = with_token().await;
    let mut client = ServerServiceClient::new(node.channel().await);
    let status = client.get_server_info(GetServerInfoRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(GetServerInfoRequest {});
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    assert!(!client.get_server_info(request).await.unwrap().into_inner().version.is_empty());
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn what_a_node_logs_is_its_operators_business() {
    let node = with_token().await;
    let put = |token: Option<&str>, body: &str| {
        let mut request =
            Request::put("/node/log-filter").header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        node.send(request.body(Full::from(body.to_owned())).unwrap())
    };
    let whole = r#"{"filter":"debug"}"#;
    assert_eq!(put(None, whole).await.status, 401);
    // This node shares the log of its test's process.
    assert_eq!(put(Some(TOKEN), whole).await.status, 404);
    let long = format!(r#"{{"filter":"{}"}}"#, "a".repeat(1025));
    for wrong in [r#"{"filter":""}"#, "{}", r#"{"filter":"x","more":1}"#, &long] {
        assert_eq!(put(Some(TOKEN), wrong).await.status, 400, "{wrong}");
    }
    node.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_get_nothing() {
    let node = Node::start().await;
    let ask = |name: &'static str, value: &'static str| {
        let request = Request::post("/v1/tasks").header(name, value);
        let request = request.header("content-type", "application/json");
        node.send(request.body(Full::from(r#"{"kind":"k"}"#)).unwrap())
    };
    for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let answer = ask(name, value).await;
        assert_eq!((answer.status, answer.problem()["reason"].as_str()), (403, Some("forbidden")));
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    assert_eq!(ask("x-nothing", "special").await.status, 201);
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_others_reach_must_be_protected_or_meant_so() {
    let dir = tempfile::tempdir().unwrap();
    let small = rota_store::EmbeddedOptions { cache_bytes: 4 << 20, ..Default::default() };
    let store = rota_store::EmbeddedStore::open(dir.path(), rota_engine::SPACES, small).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let store = std::sync::Arc::new(store);
    let engine = rota_engine::Engine::start(
        rota_engine::Host::system(),
        store,
        EngineOptions::default(),
        stop.clone(),
    );
    let open = ServerOptions { listen: "0.0.0.0:0".parse().unwrap(), ..ServerOptions::default() };
    let refused = Server::bind(engine.clone(), open.clone()).await.err();
    assert!(matches!(refused, Some(ServeError::Unprotected(_))), "{refused:?}");
    let meant = ServerOptions { insecure_no_auth: true, ..open.clone() };
    assert!(Server::bind(engine.clone(), meant.clone()).await.is_ok());
    let protected = ServerOptions { tokens: Tokens::new([TOKEN.to_owned()]).unwrap(), ..open };
    assert!(!format!("{protected:?}").contains(TOKEN));
    assert!(Server::bind(engine.clone(), protected).await.is_ok());
    let limits = Limits {
        idempotency_key_bytes: rota_engine::IDEMPOTENCY_KEY_BYTES_MAX + 1,
        ..Limits::default()
    };
    let refused = Server::bind(engine.clone(), ServerOptions { limits, ..meant }).await.err();
    assert!(matches!(refused, Some(ServeError::KeysTooLong(509))), "{refused:?}");
    stop.cancel();
    engine.stopped().await;
}
