//! A door in front of a server that can answer in its place, as a misconfigured proxy does.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::in_time;

/// What a request is answered in the server's place: the status of HTTP and that of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Odd(pub(crate) u16, pub(crate) Option<u16>);

/// Listens on a port of its own. A change of what it answers cuts all connections.
pub(crate) struct Gate {
    address: SocketAddr,
    answers: watch::Sender<Option<Odd>>,
    answered: Arc<Notify>,
    accepting: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answers, seen) = watch::channel(None);
        let answered = Arc::<Notify>::default();
        let told = answered.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((worker, _)) = listener.accept().await {
                let (mut seen, told) = (seen.clone(), told.clone());
                tokio::spawn(async move {
                    let odd = *seen.borrow_and_update();
                    tokio::select! {
                        () = serve(worker, server, odd, &told) => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self { address, answers, answered, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers so; `None`: lets all pass.
    pub(crate) fn answer(&self, odd: Option<Odd>) {
        self.answers.send_replace(odd);
    }

    /// Waits for so many further answers in the server's place.
    pub(crate) async fn has_answered(&self, times: usize) {
        for _ in 0..times {
            in_time(self.answered.notified()).await;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut worker: TcpStream, server: SocketAddr, odd: Option<Odd>, told: &Arc<Notify>) {
    let Some(Odd(status, code)) = odd else {
        let Ok(mut server) = TcpStream::connect(server).await else { return };
        let _ = copy_bidirectional(&mut worker, &mut server).await;
        return;
    };
    let service = service_fn(|_: Request<Incoming>| {
        told.notify_one();
        let mut answer = Response::builder().status(status);
        if let Some(code) = code {
            answer = answer.header("content-type", "application/grpc").header("grpc-status", code);
        }
        std::future::ready(Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).unwrap()))
    });
    // The worker may go.
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(worker), service)
        .await;
}
