//! A connection to the master that is made anew when it breaks.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value};
use tokio::sync::Mutex;

use super::{connection::Connected, fault::Fault, script::Script, server::Server};

/// Whether a request may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It does the same when it is done twice.
    Harmless,
    /// Only where Redis says that the first one was not carried out.
    Once,
}

/// See the module.
pub(super) struct Link {
    server: Arc<Server>,
    /// Whether each new connection is tried with every command that scripts use.
    thorough: bool,
    /// Held while one caller connects, so that the others wait for that connection.
    current: Mutex<Option<Arc<Connected>>>,
}

impl Link {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        Self { server: Arc::clone(server), thorough: false, current: Mutex::default() }
    }

    /// The same, with each new connection tried with all commands.
    pub(super) fn thorough(self) -> Self {
        Self { thorough: true, ..self }
    }

    /// The connection, made first if there is none. A fault had no effect. Cancel safe.
    pub(super) async fn connected(&self) -> Result<Arc<Connected>, Fault> {
        let mut current = self.current.lock().await;
        if let Some(connected) = current.as_ref()
            && connected.term >= self.server.term()
        {
            return Ok(Arc::clone(connected));
        }
        *current = None;
        let connected = Arc::new(self.server.connect(self.thorough).await?);
        *current = Some(Arc::clone(&connected));
        Ok(connected)
    }

    /// Has the next request connect anew, if the fault says so.
    pub(super) async fn failed(&self, used: &Arc<Connected>, fault: &Fault) {
        if fault.ends_connection() {
            let mut current = self.current.lock().await;
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, used)) {
                *current = None;
            }
        }
    }

    /// Connects anew, which looks whether the store still has what was seen in it.
    pub(super) async fn renew(&self) -> Result<(), Fault> {
        *self.current.lock().await = None;
        self.connected().await.map(drop)
    }

    /// One request, for which Redis has that time. Returns the answer and who gave it.
    pub(super) async fn request(
        &self,
        patience: Duration,
        effect: Effect,
        command: impl Fn(&Connected) -> Cmd,
    ) -> Result<(Value, Arc<Connected>), Fault> {
        let mut is_first = true;
        loop {
            let connected = self.connected().await?;
            let fault = match connected.send(&command(&connected), patience).await {
                Ok(answer) => return Ok((answer, connected)),
                Err(fault) => fault,
            };
            self.failed(&connected, &fault).await;
            let again = match effect {
                Effect::Harmless => fault.is_passing(),
                Effect::Once => matches!(fault, Fault::Unscripted | Fault::Elsewhere(_)),
            };
            if !is_first || !again {
                return Err(fault);
            }
            is_first = false;
        }
    }

    /// One call of a script that does the same when it is done twice.
    pub(super) async fn call(
        &self,
        script: Script,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Fault> {
        self.call_within(self.server.options.timeout, script, arguments).await
    }

    pub(super) async fn call_within(
        &self,
        patience: Duration,
        script: Script,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Fault> {
        self.ask(patience, script, arguments).await.map(|(answer, _)| answer)
    }

    /// The same. Returns the answer and who gave it.
    pub(super) async fn ask(
        &self,
        patience: Duration,
        script: Script,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<(Value, Arc<Connected>), Fault> {
        let command = |connected: &Connected| {
            let mut call = connected.call(script, &self.server.layout.root);
            arguments(&mut call);
            call
        };
        self.request(patience, Effect::Harmless, command).await
    }
}
