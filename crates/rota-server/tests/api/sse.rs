//! A client of server-sent events.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use crate::harness::{Node, PATIENCE};

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// What stands between two empty lines.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: Value,
    pub(crate) comment: Option<String>,
    pub(crate) retry: Option<String>,
}

/// A stream of server-sent events.
pub(crate) struct Sse {
    pub(crate) head: http::response::Parts,
    body: Incoming,
    text: String,
}

impl Sse {
    pub(crate) async fn open(node: &Node, query: &str) -> Self {
        Self::open_with(node, Http::One, query, &[]).await
    }

    pub(crate) async fn open_with(
        node: &Node,
        http: Http,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        Self::open_at(node, http, &format!("/v1/events{query}"), headers).await
    }

    /// Opens the stream at another path.
    pub(crate) async fn open_at(
        node: &Node,
        http: Http,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let io = TokioIo::new(TcpStream::connect(node.address).await.unwrap());
        let path = path.to_owned();
        let (host, uri) = match http {
            Http::One => (node.address.to_string(), path),
            Http::Two => (String::new(), format!("http://{}{path}", node.address)),
        };
        let mut request = Request::get(uri);
        if http == Http::One {
            request = request.header("host", host);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = match http {
            Http::One => {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                timeout(PATIENCE, sender.send_request(request)).await
            }
            Http::Two => {
                let executor = TokioExecutor::new();
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(executor, io).await.unwrap();
                tokio::spawn(connection);
                timeout(PATIENCE, sender.send_request(request)).await
            }
        };
        let (head, body) = answer.expect("an answer in time").unwrap().into_parts();
        assert_eq!(head.status, 200, "{head:?}");
        Self { head, body, text: String::new() }
    }

    /// Opens a stream and reads its first event, which is `ready`.
    pub(crate) async fn ready(node: &Node, query: &str) -> (Self, String) {
        let mut stream = Self::open(node, query).await;
        let first = stream.next().await;
        assert_eq!(first.event, "ready", "{first:?}");
        (stream, first.id.unwrap())
    }

    /// The next block. `None` at the end of the stream.
    pub(crate) async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = parse(block);
                self.text = rest.to_owned();
                return Some(block);
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("something comes");
            match frame {
                Some(frame) => {
                    let data = frame.unwrap().into_data().unwrap_or_default();
                    self.text.push_str(std::str::from_utf8(&data).unwrap());
                }
                None => {
                    assert_eq!(self.text, "", "cut off within an event");
                    return None;
                }
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Block {
        self.block().await.expect("the stream goes on")
    }

    /// The next event that is not about the stream, as its type and the task's id.
    pub(crate) async fn task(&mut self) -> (String, String) {
        let block = self.next().await;
        (block.event, block.data["task"]["id"].as_str().unwrap_or_default().to_owned())
    }
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "id" => block.id = Some(value),
            "event" => block.event = value,
            "data" => block.data = serde_json::from_str(&value).unwrap(),
            "retry" => block.retry = Some(value),
            "" => block.comment = Some(value),
            other => panic!("{other}"),
        }
    }
    block
}
