//! Several hosts on one machine: network namespaces on a bridge, whose links can be cut in either
//! direction. That needs iproute2 and the right to make them (root). Without it each host is an address
//! of the loopback interface, and no link can be cut.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Command as Blocking, Stdio},
};

use tokio::process::Command;

/// What all names of ours begin with; the number of the process that made them follows.
const PREFIX: &str = "rota";

/// A network of its own. Its hosts are gone when it is dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    base: [u8; 3],
    has_links: bool,
    hosts: Vec<String>,
}

/// A host of a [`Network`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    /// `None`: on the loopback interface.
    namespace: Option<String>,
    address: Ipv4Addr,
}

impl Network {
    /// A network without hosts; this process is on it too. What runs left behind that were killed is
    /// removed.
    ///
    /// # Panics
    /// When the kernel makes a bridge, and then does not let it be used.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "what cannot be tested belongs to the report of a run")]
    pub fn new() -> Self {
        remove_leftovers();
        let id = std::process::id();
        let byte = |shift: u32| u8::try_from((id >> shift) & 0xff).expect("a byte");
        let (name, base) = (format!("{PREFIX}{id}"), [10, 64 + byte(8) % 128, byte(0)]);
        let mut network = Self { name, base, has_links: true, hosts: Vec::new() };
        let own = network.address(254);
        if !try_ip(&format!("link add {} type bridge", network.name)) {
            eprintln!(
                "no right to make networks (this is not root): NO LINK CAN BE CUT in this run"
            );
            network.has_links = false;
            network.base[0] = 127;
            return network;
        }
        ip(&format!("addr add {own}/24 dev {}", network.name));
        ip(&format!("link set {} up", network.name));
        network
    }

    /// One more host.
    ///
    /// # Panics
    /// When there are 250 already, or the kernel refuses.
    pub fn host(&mut self) -> Host {
        let number = u8::try_from(self.hosts.len() + 1).expect("few hosts");
        let (bridge, address) = (self.name.clone(), self.address(number));
        let namespace = format!("{bridge}-{number}");
        if !self.has_links {
            self.hosts.push(namespace);
            return Host { namespace: None, address };
        }
        let (outside, inside) = (format!("{bridge}o{number}"), format!("{bridge}i{number}"));
        ip(&format!("netns add {namespace}"));
        self.hosts.push(namespace.clone());
        ip(&format!("link add {outside} type veth peer name {inside} netns {namespace}"));
        ip(&format!("link set {outside} master {bridge} up"));
        ip(&format!("-n {namespace} addr add {address}/24 dev {inside}"));
        ip(&format!("-n {namespace} link set {inside} up"));
        ip(&format!("-n {namespace} link set lo up"));
        Host { namespace: Some(namespace), address }
    }

    /// Whether links between hosts can be cut.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.has_links
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.base;
        Ipv4Addr::new(a, b, c, last)
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if !self.has_links {
            return;
        }
        // Whatever does not go now is removed by the next run. The kernel removes the links of a namespace later than
        // the namespace, when the next network of this process may already need their names.
        for (number, host) in (1_usize..).zip(&self.hosts) {
            try_ip(&format!("link del {}o{number}", self.name));
            try_ip(&format!("netns del {host}"));
        }
        try_ip(&format!("link del {}", self.name));
    }
}

impl Host {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A program on this host. Its process is the program's own: signals reach it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// From now on nothing of what this host sends reaches the other one. What the other one sends
    /// still arrives here.
    ///
    /// # Panics
    /// When it is cut already, or there are no links.
    pub fn cut(&self, other: &Self) {
        ip(&format!("-n {} route add blackhole {}/32", self.links(), other.address));
    }

    /// Undoes [`Host::cut`].
    ///
    /// # Panics
    /// When it was not cut.
    pub fn mend(&self, other: &Self) {
        ip(&format!("-n {} route del blackhole {}/32", self.links(), other.address));
    }

    /// Where its routes are.
    fn links(&self) -> &str {
        self.namespace.as_deref().expect("a network with links, for one of them is to be cut")
    }

    /// Whether a connection from here to a port of the other host comes about: packets must pass in
    /// both directions.
    pub async fn reaches(&self, other: &Self, port: u16) -> bool {
        let connect = format!("exec 3<>/dev/tcp/{}/{port}", other.address);
        let mut command = self.command(Path::new("timeout"));
        command.args(["1", "bash", "-c", &connect]).stderr(Stdio::null());
        command.status().await.is_ok_and(|status| status.success())
    }
}

fn ip(arguments: &str) {
    assert!(try_ip(arguments), "ip {arguments}: failed (this needs root and iproute2)");
}

fn try_ip(arguments: &str) -> bool {
    let mut command = Blocking::new("ip");
    command.args(arguments.split(' ')).stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Removes what belongs to processes that are no more.
fn remove_leftovers() {
    let of_the_dead = |name: &str| {
        let digits: String =
            name.strip_prefix(PREFIX)?.chars().take_while(char::is_ascii_digit).collect();
        let gone = !digits.is_empty() && !Path::new(&format!("/proc/{digits}")).exists();
        gone.then(|| name.to_owned())
    };
    let names = |directory: &str| -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| of_the_dead(entry.file_name().to_str()?)).collect()
    };
    for namespace in names("/run/netns") {
        try_ip(&format!("netns del {namespace}"));
    }
    for link in names("/sys/class/net") {
        try_ip(&format!("link del {link}"));
    }
}
