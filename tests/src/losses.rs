//! What Redis lost of what it had, and what the nodes tell of it.
//!
//! The truth is in the file of the former master: a copy of it is served by a server of its own, and whatever its log has
//! and that of the present master has not is lost. Where Redis acknowledged changes that were lost, tasks may be missing
//! and may have run twice, but the nodes must tell how many batches it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::TcpListener,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rota_client::v1::GetClusterRequest;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    audit::{self, Ack},
    cluster::{Cluster, node_name},
    history::{self, Loss, Revision},
    process::{LOOK, PATIENCE},
    recorder,
    store::redis::{self, Value, ask},
    users::{Complaint, now_ms},
};

/// A batch that was on its way when the master died may be in its file, and nobody has heard of it. Whether nodes have is
/// waited for that long.
const HEARS_WITHIN: Duration = Duration::from_secs(5);

/// How it was before something happened that may lose changes.
#[derive(Debug)]
pub(crate) struct Before {
    /// The files of the master.
    kept: PathBuf,
    /// Keeps also those that it begins meanwhile.
    keeps: JoinHandle<()>,
    /// What each node tells.
    told: Vec<u64>,
    /// How often another server was made the master.
    switches: usize,
}

impl Before {
    /// Keeps the files of the master, which goes on writing to them.
    pub(crate) async fn keep(cluster: &Cluster) -> Self {
        let master = cluster.store.leader().await;
        let address = cluster.store.address(master);
        let mut look = tokio::time::interval(LOOK);
        let same_files = async {
            while redis::writes_its_file_anew(&address).await {
                look.tick().await;
            }
        };
        timeout(PATIENCE, same_files).await.expect("the master goes on with the files that it has");
        let kept = cluster.file(&format!("kept-{}", cluster.losses.len()));
        let files = cluster.file(&format!("r{}", master + 1)).join("appendonlydir");
        // A file may be replaced meanwhile.
        while link(&files, &kept.join("appendonlydir")).is_err() {
            fs::remove_dir_all(&kept).expect("removed");
        }
        let keeps = tokio::spawn(keep_on(files, kept.join("appendonlydir")));
        Self { kept, keeps, told: told(cluster).await, switches: switches(cluster) }
    }

    /// Finds out what was lost since, and what the nodes tell of it.
    ///
    /// # Panics
    /// When nodes tell of more than was lost, or do not tell of it.
    #[expect(clippy::print_stdout, reason = "what was lost belongs to the report of a run")]
    pub(crate) async fn compare(self, cluster: &mut Cluster) {
        cluster.store.is_settled().await;
        self.keeps.abort();
        let former = log_in(&self.kept).await;
        let master = cluster.store.address(cluster.store.leader().await);
        let present = recorder::log_of(&master).await.expect("the log of the master");
        let have: BTreeMap<_, _> = present.iter().filter_map(key).collect();
        let first = have.keys().next().copied().unwrap_or(0);
        let is_lost = |revision: &Revision| {
            key(revision).is_some_and(|(seq, epoch)| seq >= first && have.get(&seq) != Some(&epoch))
        };
        let batches: Vec<_> = former.into_iter().filter(is_lost).collect();
        if switches(cluster) > self.switches + 1 {
            // A master in between lost something as well, and its file is gone.
            println!("    Sentinel failed over twice: what is told is not compared");
            return;
        }
        let told = self.hear(cluster, batches.len() as u64).await;
        if !batches.is_empty() {
            println!("    {} batches were lost; the nodes tell of {told}", batches.len());
            cluster.losses.push(Loss { batches, told, found_at: now_ms() });
        }
    }

    /// What the nodes tell of so many lost batches.
    async fn hear(&self, cluster: &Cluster, lost: u64) -> u64 {
        let (began, mut look) = (Instant::now(), tokio::time::interval(LOOK));
        loop {
            look.tick().await;
            let now = told(cluster).await.into_iter().zip(&self.told);
            let newly = now.map(|(now, before)| now - before).max().unwrap_or(0);
            assert!(newly <= lost, "{lost} batches were lost, and a node tells of {newly}");
            let unheard = began.elapsed() > HEARS_WITHIN && newly + 1 == lost;
            if newly == lost || unheard {
                return newly;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{lost} batches were lost, and nodes tell of {newly}"
            );
        }
    }
}

fn key(revision: &Revision) -> Option<(u64, i64)> {
    revision.head.map(|head| (head.seq, head.epoch))
}

/// How often another server was made the master, as a Sentinel has it that knows it all.
fn switches(cluster: &Cluster) -> usize {
    let switches = cluster.store.sentinels.iter().map(|one| one.said("+switch-master"));
    switches.max().unwrap_or(0)
}

/// How many lost batches each node tells of, all in all: what it knows itself. The sum of the cluster is the largest of these,
/// and hides what a node found that had seen less of earlier losses than another.
async fn told(cluster: &Cluster) -> Vec<u64> {
    let mut all = Vec::new();
    for node in 0..cluster.nodes.len() {
        let (client, mut look) = (cluster.client_of(node), tokio::time::interval(LOOK));
        let told = async {
            loop {
                if let Ok(told) = client.get_cluster(GetClusterRequest {}).await {
                    break told;
                }
                look.tick().await;
            }
        };
        let told = timeout(PATIENCE, told).await.expect("every node answers");
        let own = told.nodes.into_iter().find(|one| one.name == node_name(node));
        let lost = own.expect("a node is in its cluster").lost;
        all.push(lost.map_or(0, |lost| lost.batches.expect("some node knows how many")));
    }
    all
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::hard_link(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Keeps each file that a server begins: it goes on in another one while it writes its file anew.
async fn keep_on(from: PathBuf, to: PathBuf) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let Ok(files) = fs::read_dir(&from) else { continue };
        for file in files.flatten().filter(|file| number(&file.path(), GROWS).is_some()) {
            // It is kept already, or gone again.
            let _ = fs::hard_link(file.path(), to.join(file.file_name()));
        }
    }
}

/// How the names of files end from which a server begins, and of those to which it adds.
const BEGINS: &str = ".base.rdb";
const GROWS: &str = ".incr.aof";

/// The number in the name of a file that ends like this.
fn number(file: &Path, end: &str) -> Option<u32> {
    file.file_name()?.to_str()?.strip_suffix(end)?.rsplit('.').next()?.parse().ok()
}

/// Has a server read all files in that directory, one after another.
fn list(files: &Path) {
    let all: Vec<_> =
        fs::read_dir(files).expect("files").flatten().map(|file| file.path()).collect();
    let mut lines = Vec::new();
    for (end, kind) in [(BEGINS, 'b'), (GROWS, 'i')] {
        let of_kind = all.iter().filter_map(|file| Some((number(file, end)?, file.file_name()?)));
        for (number, name) in of_kind.collect::<BTreeSet<_>>() {
            lines.push(format!("file {} seq {number} type {kind}\n", name.display()));
        }
    }
    fs::write(files.join("appendonly.aof.manifest"), lines.concat()).expect("written");
}

/// A server of its own for files. It is gone when this is dropped.
pub(crate) struct Served {
    pub(crate) address: String,
    server: Child,
}

impl Served {
    pub(crate) async fn start(home: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("a free port").port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
        command.arg("--dir").arg(home).stdin(Stdio::null()).stdout(Stdio::null());
        command.kill_on_drop(true);
        let mut start = || command.spawn().expect("redis-server is installed");
        let mut served = Self { address: format!("127.0.0.1:{port}"), server: start() };
        let mut look = tokio::time::interval(LOOK);
        let answers = async {
            while !matches!(ask(&served.address, &["PING"]).await, Ok(Value::Bytes(_))) {
                // Where a file before the last one is torn, it cuts that off and ends.
                if served.server.try_wait().expect("a process").is_some() {
                    served.server = start();
                }
                look.tick().await;
            }
        };
        timeout(PATIENCE, answers).await.expect("the files are served");
        served
    }
}

/// The log in those files, as a server finds it that has a copy of them.
async fn log_in(kept: &Path) -> Vec<Revision> {
    let copy = kept.join("copy");
    let files = copy.join("appendonlydir");
    fs::create_dir_all(&files).expect("a directory");
    for file in fs::read_dir(kept.join("appendonlydir")).expect("files").flatten() {
        fs::copy(file.path(), files.join(file.file_name())).expect("copied");
    }
    list(&files);
    let server = Served::start(&copy).await;
    let log = recorder::log_of(&server.address).await.expect("the log of the copy");
    drop(server);
    fs::remove_dir_all(kept).expect("removed");
    log
}

/// The numbers of batches that are no larger than those of batches that were lost before them. Of each loss there are the
/// lost batches in a row: whatever was written in their place must have a larger number than all of them.
#[must_use]
pub fn recurring<'a>(
    history: &[Revision],
    losses: impl IntoIterator<Item = &'a [Revision]>,
) -> Vec<history::Fault> {
    let number = |revision: &Revision| revision.head.map(|head| head.seq);
    let mut faults = BTreeSet::new();
    for lost in losses {
        let lost: BTreeSet<_> = lost.iter().filter_map(number).collect();
        let Some((first, last)) = lost.first().zip(lost.last()) else { continue };
        faults.extend(history.iter().filter_map(number).filter(|seq| first <= seq && seq <= last));
    }
    faults.into_iter().map(history::Fault::Recurs).collect()
}

/// What was lost in a whole run: what may be missing or repeated because of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses {
    /// Tasks that a lost batch wrote, by the ids of Rota and of clients.
    tasks: BTreeSet<String>,
    /// When there may have been two masters: from the first lost batch until the loss was found, in milliseconds since 1970.
    spans: Vec<RangeInclusive<i64>>,
    /// Lost batches.
    pub batches: usize,
    /// Times.
    pub times: usize,
    /// Tasks that were acknowledged, and were created by a lost batch that no node tells of.
    pub untold: Vec<String>,
}

impl Losses {
    /// Reads what was lost, and holds it against what was acknowledged. `dropped` is what the recorder has read of it.
    #[must_use]
    pub fn new(losses: &[Loss], dropped: &[Vec<Revision>], acks: &[Ack]) -> Self {
        let mut all = Self { times: losses.len(), ..Self::default() };
        let acknowledged: BTreeSet<_> = acks.iter().map(|ack| ack.id.as_str()).collect();
        for Loss { batches, told, found_at } in losses {
            all.spans.extend(batches.first().map(|first| first.at..=*found_at));
            all.batches += batches.len();
            let told = usize::try_from(*told).unwrap_or(usize::MAX);
            let untold = batches.iter().skip(told).flat_map(|batch| &batch.created);
            let untold = untold.filter(|task| acknowledged.contains(task.as_str()));
            all.untold.extend(untold.cloned());
        }
        for batch in losses.iter().flat_map(|loss| &loss.batches).chain(dropped.concat().iter()) {
            all.tasks.extend(batch.ids.iter().cloned());
            all.tasks.extend(batch.tasks.iter().map(|write| write.task().to_owned()));
        }
        all
    }

    /// Nothing that was acknowledged may be lost, whatever was.
    pub fn excuse_nothing(&mut self) {
        self.tasks.clear();
        self.spans.clear();
    }

    /// Whether what the judge of the record found may be because of that.
    #[must_use]
    pub fn excuse(&self, fault: &audit::Fault) -> bool {
        use audit::Fault;
        match fault {
            Fault::Missing(task) | Fault::LostByNobody(task, _) | Fault::EffectTwice(task, _) => {
                self.tasks.contains(task)
            }
            // The lease is lost, or its end is: then the worker gave it back.
            Fault::Stray(effect) => self.tasks.contains(&effect.id),
            _ => false,
        }
    }

    /// The same of what the judge of the history found. A lease that was given back is not told as an attempt, and the
    /// next one has its number.
    #[must_use]
    pub fn excuse_written(&self, fault: &history::Fault) -> bool {
        use history::Fault;
        matches!(fault, Fault::Told(task) | Fault::Overlap(_, task) if self.tasks.contains(task))
    }

    /// The same of what a user complains of, and when it was told. A former master serves what it has until its leader hears
    /// of the failover, so what was acknowledged by the other one is not there for that while.
    #[must_use]
    pub fn excuse_complaint(&self, complaint: &Complaint, at: Option<i64>) -> bool {
        let (Complaint::NotFound(id) | Complaint::Changed(id, ..) | Complaint::EndedAs(id, _)) =
            complaint;
        let in_span = |at: i64| self.spans.iter().any(|span| span.contains(&at));
        self.tasks.contains(id) || at.is_some_and(in_span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Fault, HeadWrite};

    fn batches(seqs: &[u64]) -> Vec<Revision> {
        let batch = |&seq: &u64| {
            let head = Some(HeadWrite { epoch: 1, seq, prev: 0, sealed: false });
            Revision { head, ..Revision::default() }
        };
        seqs.iter().map(batch).collect()
    }

    #[test]
    fn numbers_of_lost_batches_are_not_passed_under() {
        let found = |there: &[u64], losses: &[&[u64]]| {
            let losses: Vec<_> = losses.iter().map(|lost| batches(lost)).collect();
            recurring(&batches(there), losses.iter().map(Vec::as_slice))
        };
        // Batches 5 to 9 are lost, and the store goes on after 4.
        assert_eq!(found(&[3, 4, 10, 11], &[&[5, 6, 7, 8, 9]]), []);
        assert_eq!(found(&[3, 4, 9, 10], &[&[5, 6, 7, 8, 9]]), [Fault::Recurs(9)]);
        // It is no batch's number, but that of a lease is compared by size.
        assert_eq!(found(&[3, 4, 8, 10], &[&[5, 6, 7, 9]]), [Fault::Recurs(8)]);
        // What is written between two losses is larger than the first and smaller than the second.
        assert_eq!(found(&[4, 20, 40], &[&[5, 6], &[30, 31]]), []);
    }

    #[test]
    fn a_complaint_is_excused_by_what_was_lost_and_while_there_may_have_been_two_masters() {
        let lost = |ids: &[&str]| Revision {
            at: 100,
            ids: ids.iter().map(ToString::to_string).collect(),
            ..Revision::default()
        };
        let loss = Loss { batches: vec![lost(&["a"])], told: 1, found_at: 200 };
        let losses = Losses::new(&[loss], &[], &[]);
        let excused = |id: &str, at| losses.excuse_complaint(&Complaint::NotFound(id.into()), at);
        assert!(excused("a", None) && excused("a", Some(300)));
        assert!(excused("b", Some(100)) && excused("b", Some(200)));
        assert!(!excused("b", None) && !excused("b", Some(99)) && !excused("b", Some(201)));
        let mut strict = losses.clone();
        strict.excuse_nothing();
        assert!(!strict.excuse_complaint(&Complaint::NotFound("b".into()), Some(150)));
    }
}
