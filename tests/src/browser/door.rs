//! A door between a browser and a server: it passes requests on, late if it is told so, or refuses them. It writes down
//! what was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

/// What the door does with requests. Styles, scripts and the stream of changes always pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It passes them on.
    Open,
    /// It passes them on after so long.
    Slow(Duration),
    /// It answers that the server cannot answer.
    Failing,
}

#[derive(Debug)]
struct Known {
    state: State,
    /// Each request as `GET /ui/tasks`, without its query.
    asked: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

impl Door {
    /// A door to the server at this address.
    ///
    /// # Panics
    /// When there is no port for it.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let known = Arc::new(Mutex::new(Known { state: State::Open, asked: Vec::new() }));
        let of_each = known.clone();
        // Ends with the test.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, server, of_each.clone()));
            }
        });
        Self { address, known }
    }

    /// The address of a page behind the door.
    #[must_use]
    pub fn url(&self, page: &str) -> String {
        format!("http://{}/ui/{page}", self.address)
    }

    /// Changes what it does with the next requests.
    pub fn set(&self, state: State) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).state = state;
    }

    /// How often this was asked for, such as `GET /ui/tasks`.
    #[must_use]
    pub fn asked(&self, what: &str) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.asked.iter().filter(|one| *one == what).count()
    }
}

/// Passes one request of a connection.
async fn pass(mut browser: TcpStream, server: SocketAddr, known: Arc<Mutex<Known>>) {
    let mut request = Vec::new();
    let head = loop {
        if browser.read_buf(&mut request).await.unwrap_or_default() == 0 {
            return;
        }
        if let Some(end) = request.windows(4).position(|end| end == b"\r\n\r\n") {
            break String::from_utf8_lossy(&request[..end]).into_owned();
        }
    };
    let mut words = head.split([' ', '?']);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let state = {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.asked.push(format!("{method} {path}"));
        known.state
    };
    let always = path == "/ui/live" || path.starts_with("/ui/assets/");
    match state {
        State::Failing if !always => {
            let answer = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            // The browser may have gone.
            let _ = browser.write_all(answer.as_bytes()).await;
            return;
        }
        State::Slow(pause) if !always => sleep_until(Instant::now() + pause).await,
        _ => {}
    }
    // One request for each connection, so that each is seen.
    let mut lines: Vec<_> = head.split("\r\n").collect();
    lines.retain(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let forwarded = format!("{}\r\nconnection: close\r\n\r\n", lines.join("\r\n"));
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let body = &request[head.len() + 4..];
    if server.write_all(&[forwarded.as_bytes(), body].concat()).await.is_ok() {
        // Ends when either of them does.
        let _ = tokio::io::copy_bidirectional(&mut browser, &mut server).await;
    }
}
