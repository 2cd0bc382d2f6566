//! The shared store of a cluster: which one is tested, its servers on hosts of their own, and how they are asked.
//!
//! [`etcd`], [`redis`] and [`consul`] say how their servers are started and speak to them as an operator does. Rota's own
//! drivers are not used here.

pub mod consul;
pub mod etcd;
pub mod redis;

use std::{path::Path, time::Duration};

use tokio::time::timeout;

use crate::{
    cluster::Process,
    net::{Host, Network},
    process::{LOOK, PATIENCE},
};

/// A leader that is gone is replaced after so long, if the store allows that.
const LEADER_TTL: Duration = Duration::from_secs(3);

/// The store that is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// etcd as it is installed, or the program that `ROTA_TEST_ETCD` names.
    Etcd,
    /// etcd 3.5.
    Etcd35,
    /// Redis: one server, or several with Sentinels. Commits do not wait for replicas.
    Redis,
    /// Redis with Sentinels, where each commit waits for a replica.
    ReplicatedRedis,
    /// Consul with sessions as it allows them by default: 10 s at least.
    Consul,
    /// Consul whose operator allows shorter sessions.
    ConsulWithShortSessions,
}

impl Backend {
    /// The setting `leader_ttl` of nodes.
    #[must_use]
    pub fn leader_ttl(self) -> Duration {
        if self == Self::Consul { Duration::from_secs(10) } else { LEADER_TTL }
    }

    /// After so long, the seat of a leader that died is free. Consul takes up to twice the TTL of a session.
    #[must_use]
    pub fn seat_is_free_within(self) -> Duration {
        match self {
            Self::Consul | Self::ConsulWithShortSessions => self.leader_ttl() * 2,
            _ => self.leader_ttl(),
        }
    }

    /// Whether it is Consul, with whichever sessions.
    #[must_use]
    pub fn is_consul(self) -> bool {
        matches!(self, Self::Consul | Self::ConsulWithShortSessions)
    }

    /// Whether it is Redis, with or without waiting for replicas.
    #[must_use]
    pub fn is_redis(self) -> bool {
        matches!(self, Self::Redis | Self::ReplicatedRedis)
    }

    /// Where its servers serve clients.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Etcd | Self::Etcd35 => etcd::PORT,
            Self::Redis | Self::ReplicatedRedis => redis::PORT,
            Self::Consul | Self::ConsulWithShortSessions => consul::PORT,
        }
    }
}

/// The servers of a store. They are gone when this is dropped.
#[derive(Debug)]
pub struct Store {
    /// Which store it is.
    pub backend: Backend,
    /// Its servers: members of etcd, servers of Redis, servers of Consul.
    pub servers: Vec<Process>,
    /// The Sentinels, where Redis has several servers.
    pub sentinels: Vec<Process>,
}

impl Store {
    /// So many servers that do not run yet. Their data is in `home`.
    pub(crate) fn new(backend: Backend, network: &mut Network, count: usize, home: &Path) -> Self {
        let hosts: Vec<_> = (0..count).map(|_| network.host()).collect();
        let mut sentinels = Vec::new();
        let servers = match backend {
            Backend::Etcd => etcd::members(&etcd::program(), hosts, home),
            Backend::Etcd35 => etcd::members(&etcd::program_35(), hosts, home),
            Backend::Redis | Backend::ReplicatedRedis => {
                if count > 1 {
                    let watched = hosts[0].clone();
                    let hosts = (0..redis::SENTINELS).map(|_| network.host()).collect();
                    sentinels = redis::sentinels(&watched, hosts, home);
                }
                redis::servers(hosts, home)
            }
            Backend::Consul => consul::servers(hosts, home, None),
            Backend::ConsulWithShortSessions => consul::servers(hosts, home, Some(LEADER_TTL)),
        };
        Self { backend, servers, sentinels }
    }

    /// Starts all of it and waits until it serves. Sentinels come last: they ask for replicas only now and then.
    pub(crate) async fn start(&mut self) {
        self.servers.iter_mut().for_each(Process::start);
        // A commit may wait for replicas that do not follow their master yet.
        self.is_whole().await;
        self.sentinels.iter_mut().for_each(Process::start);
        let (replicas, mut look) = (self.servers.len() - 1, tokio::time::interval(LOOK));
        let known = async {
            for sentinel in self.sentinel_addresses() {
                while !redis::knows(&sentinel, replicas).await {
                    look.tick().await;
                }
            }
        };
        timeout(PATIENCE, known).await.expect("the Sentinels know all servers and each other");
    }

    /// The setting `store` of nodes.
    #[must_use]
    pub fn url(&self) -> String {
        match self.backend {
            Backend::Etcd | Backend::Etcd35 => format!("etcd://{}/rota", self.addresses()),
            Backend::Redis | Backend::ReplicatedRedis => {
                let replicas = i32::from(self.backend == Backend::ReplicatedRedis);
                if self.sentinels.is_empty() {
                    format!("redis://{}", self.addresses())
                } else {
                    let sentinels = addresses(&self.sentinels, redis::SENTINEL_PORT);
                    format!("redis+sentinel://{sentinels}/{}?replicas={replicas}", redis::MASTER)
                }
            }
            Backend::Consul | Backend::ConsulWithShortSessions => {
                format!("consul://{}/rota", self.addresses())
            }
        }
    }

    /// The settings of nodes that this store asks for.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let ttl = format!("--leader-ttl={}s", self.backend.leader_ttl().as_secs());
        let mut options = vec![format!("--store={}", self.url()), ttl];
        if matches!(self.backend, Backend::Etcd | Backend::Etcd35) {
            options.push(format!("--store-etcd-quota-bytes={}", etcd::QUOTA_BYTES));
        }
        options
    }

    /// The same by their former names, which older versions know too.
    #[must_use]
    pub fn options_of_all_versions(&self) -> Vec<String> {
        let former = |option: String| option.replace("--store-etcd-", "--store-");
        self.options().into_iter().map(former).collect()
    }

    /// Where all servers are, with commas between.
    #[must_use]
    pub fn addresses(&self) -> String {
        addresses(&self.servers, self.backend.port())
    }

    /// Where a server is.
    #[must_use]
    pub fn address(&self, server: usize) -> String {
        address(&self.servers[server].host, self.backend.port())
    }

    /// The hosts and ports to which nodes connect.
    #[must_use]
    pub fn places(&self) -> Vec<(Host, u16)> {
        let servers = self.servers.iter().map(|server| (server.host.clone(), self.backend.port()));
        let sentinels = self.sentinels.iter();
        let sentinels = sentinels.map(|one| (one.host.clone(), redis::SENTINEL_PORT));
        servers.chain(sentinels).collect()
    }

    /// Whether a server answers what needs the store as a whole, asked by this process.
    pub async fn answers(&self, server: usize) -> bool {
        let address = self.address(server);
        match self.backend {
            Backend::Etcd | Backend::Etcd35 => etcd::is_healthy(&address).await,
            Backend::Redis | Backend::ReplicatedRedis => redis::is_ready(&address).await,
            Backend::Consul | Backend::ConsulWithShortSessions => consul::is_ready(&address).await,
        }
    }

    /// Waits until every server answers.
    ///
    /// # Panics
    /// When one does not within a minute.
    pub async fn is_whole(&self) {
        let mut look = tokio::time::interval(LOOK);
        let whole = async {
            for server in 0..self.servers.len() {
                while !self.answers(server).await {
                    look.tick().await;
                }
            }
        };
        timeout(PATIENCE, whole).await.expect("the store comes back");
    }

    /// Waits until it is settled which server of Redis is the master. A server that answers is not enough: Sentinels may be
    /// about to replace it, and what it takes until then is lost.
    ///
    /// # Panics
    /// When it is not within a minute.
    pub(crate) async fn is_settled(&self) {
        if self.sentinels.is_empty() {
            return;
        }
        let (sentinels, mut look) = (self.sentinel_addresses(), tokio::time::interval(LOOK));
        let servers: Vec<_> = (0..self.servers.len()).map(|server| self.address(server)).collect();
        let settled = async {
            while !redis::is_settled(&sentinels, &servers).await {
                look.tick().await;
            }
        };
        timeout(PATIENCE, settled).await.expect("the Sentinels settle who the master is");
    }

    /// The server that leads the others: which takes the writes.
    ///
    /// # Panics
    /// When none does within a minute.
    pub async fn leader(&self) -> usize {
        let mut look = tokio::time::interval(LOOK);
        let found = async {
            loop {
                look.tick().await;
                for server in 0..self.servers.len() {
                    let address = self.address(server);
                    let leads = match self.backend {
                        Backend::Etcd | Backend::Etcd35 => etcd::leads(&address).await,
                        Backend::Redis | Backend::ReplicatedRedis => self.is_master(server).await,
                        Backend::Consul | Backend::ConsulWithShortSessions => {
                            consul::leads(&address).await
                        }
                    };
                    if leads {
                        return server;
                    }
                }
            }
        };
        timeout(PATIENCE, found).await.expect("a server of the store leads")
    }

    /// Whether a server of Redis is the master, as the Sentinels have it where there are any.
    async fn is_master(&self, server: usize) -> bool {
        let address = self.address(server);
        if self.sentinels.is_empty() {
            return redis::is_ready(&address).await;
        }
        redis::master(&self.sentinel_addresses()).await.is_some_and(|(master, _)| master == address)
            && redis::is_master(&address).await
    }

    /// Where the Sentinels are.
    #[must_use]
    pub fn sentinel_addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(|one| address(&one.host, redis::SENTINEL_PORT)).collect()
    }
}

fn address(host: &Host, port: u16) -> String {
    format!("{}:{port}", host.address())
}

fn addresses(processes: &[Process], port: u16) -> String {
    let all: Vec<_> = processes.iter().map(|process| address(&process.host, port)).collect();
    all.join(",")
}
