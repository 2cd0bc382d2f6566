//! One connection to a server, as long as it lasts.

use std::{pin::pin, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, IntoConnectionInfo,
    RedisConnectionInfo, TlsCertificates, Value, aio::MultiplexedConnection,
};
use tokio::time::timeout;

use super::{
    answer,
    fault::Fault,
    options::{RedisDurability, RedisOptions, RedisTls, RedisUser, split_port},
    script::Script,
};

/// Time is counted in slices of that length, each once, however late its end comes: while this process stood still it could
/// not have heard an answer.
const SLICE: Duration = Duration::from_millis(250);

/// A connection to a server that was found fit.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    /// The hashes of the scripts, in the order of [`Script::ALL`].
    pub(super) hashes: Vec<String>,
    /// The term in which this server is the master.
    pub(super) term: u64,
    pub(super) has_waitaof: bool,
}

impl Connected {
    /// A call of a script, for arguments to be added to.
    pub(super) fn call(&self, script: Script, root: &str) -> Cmd {
        script.call(&self.hashes[script as usize], root)
    }

    pub(super) async fn send(&self, command: &Cmd, patience: Duration) -> Result<Value, Fault> {
        let mut connection = self.connection.clone();
        let answer = within(patience, command.query_async(&mut connection)).await;
        Ok(answer.ok_or(Fault::Silent(patience))??)
    }

    /// Waits until as many replicas as the options say have what was written on this connection.
    pub(super) async fn replicated(
        &self,
        options: &RedisOptions,
        patience: Duration,
    ) -> Result<(), Fault> {
        if options.replicas == 0 {
            return Ok(());
        }
        let timeout = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let reached = if self.has_waitaof {
            let local = u8::from(options.durability == RedisDurability::Always);
            let mut wait = redis::cmd("WAITAOF");
            wait.arg(local).arg(options.replicas).arg(timeout);
            let [_, replicas] = answer::exactly(self.send(&wait, patience * 2).await?)?;
            answer::number(replicas)?
        } else {
            let mut wait = redis::cmd("WAIT");
            wait.arg(options.replicas).arg(timeout);
            answer::number(self.send(&wait, patience * 2).await?)?
        };
        if reached >= u64::from(options.replicas) {
            return Ok(());
        }
        let wanted = options.replicas;
        Err(Fault::Unknown(format!("only {reached} of {wanted} replicas have it")))
    }
}

/// A connection to that endpoint, without any question asked.
pub(super) async fn dial(
    options: &RedisOptions,
    endpoint: &str,
    user: Option<&RedisUser>,
    database: u32,
) -> Result<MultiplexedConnection, Fault> {
    let (host, port) = split_port(endpoint)
        .ok_or_else(|| Fault::Refused(format!("`{endpoint}` is not a host and port")))?;
    let host = host.to_owned();
    let mut settings = RedisConnectionInfo::default().set_db(database.into());
    if let Some(user) = user {
        settings = settings.set_username(&user.name).set_password(&user.password);
    }
    let client = match &options.tls {
        None => {
            let info = ConnectionAddr::Tcp(host, port).into_connection_info()?;
            Client::open(info.set_redis_settings(settings))?
        }
        Some(tls) => {
            let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            let info = address.into_connection_info()?.set_redis_settings(settings);
            Client::build_with_tls(info, certificates(tls).await?)?
        }
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.timeout))
        .set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    within(options.timeout, connecting).await.ok_or(Fault::Silent(options.timeout))?.map_err(
        |error| match Fault::from(error) {
            Fault::Unknown(why) => Fault::Refused(format!("{endpoint}: {why}")),
            fault => fault,
        },
    )
}

/// The certificates of these files.
async fn certificates(tls: &RedisTls) -> Result<TlsCertificates, Fault> {
    let read = async |file: &Option<std::path::PathBuf>| match file {
        Some(file) => {
            let failed = |error| Fault::Refused(format!("cannot read {}: {error}", file.display()));
            Ok(Some(tokio::fs::read(file).await.map_err(failed)?))
        }
        None => Ok::<_, Fault>(None),
    };
    let (root_cert, client_cert, client_key) =
        (read(&tls.ca_file).await?, read(&tls.cert_file).await?, read(&tls.key_file).await?);
    let client_tls = client_cert.zip(client_key);
    let client_tls =
        client_tls.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    Ok(TlsCertificates { client_tls, root_cert })
}

/// Awaits it for that long, as far as this process could listen.
pub(super) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut left = time;
    let mut future = pin!(future);
    while !left.is_zero() {
        let slice = left.min(SLICE);
        if let Ok(value) = timeout(slice, &mut future).await {
            return Some(value);
        }
        left -= slice;
    }
    None
}
