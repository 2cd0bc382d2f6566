//! A server that answers what it is told to, and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What a connection is answered.
#[derive(Clone)]
pub(crate) enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, then more of the body for ever.
    Endless(String),
    /// Nothing at all.
    Silence,
}

/// Listens on 127.0.0.1 until it is dropped.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Target {
    /// Answers each request by its path, without the slash.
    pub(crate) async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move {
                    // A client may go away whenever it likes.
                    let _ = serve(stream, &seen, &*answer).await;
                });
            }
        });
        Self { address, requests, accepting }
    }

    /// Always the same answer: a status line's end, headers and a body.
    pub(crate) async fn saying(status: &str, headers: &str, body: &str) -> Self {
        Self::giving(status, headers.as_bytes(), body.as_bytes()).await
    }

    /// The same in bytes.
    pub(crate) async fn giving(status: &str, headers: &[u8], body: &[u8]) -> Self {
        let bytes = answer_bytes(status, headers, body);
        Self::start(move |_| Answer::Bytes(bytes.clone())).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The requests so far, each with its head in lower case.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    answer_bytes(status, headers.as_bytes(), body.as_bytes())
}

fn answer_bytes(status: &str, headers: &[u8], body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n");
    [head.as_bytes(), headers, b"\r\n", body].concat()
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<String>>,
    answer: &(dyn Fn(&str) -> Answer + Send + Sync),
) -> std::io::Result<()> {
    let mut read = Vec::new();
    let request = loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            break format!("{head}\r\n\r\n{body}");
        }
    };
    let path = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    seen.lock().unwrap().push(request);
    match answer(&path) {
        Answer::Bytes(bytes) => stream.write_all(&bytes).await?,
        Answer::Endless(head) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(&[b'a'; 4096]).await?;
            }
        }
        Answer::Silence => {
            // Until the client goes.
            stream.read_buf(&mut read).await?;
        }
    }
    stream.shutdown().await
}
