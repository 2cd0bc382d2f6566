//! The server, as all connections know it: how it is reached, which failover made it the master, and the leadership of
//! this process in it.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::{
    answer,
    connection::{self, Connected},
    fault::Fault,
    fitness,
    layout::{FORMAT, Layout},
    lineage::Lineage,
    options::{RedisOptions, RedisServers},
    position::Position,
    script::Script,
    sentinel::{self, Place},
    torn::TornFile,
};
use crate::model::{BatchSeq, Epoch};

/// Numbers of a term begin with so many bits behind it: larger than all that a former master gave out.
const TERM_BITS: u32 = 32;

/// Readers of JSON round numbers from here on.
pub(super) const NUMBER_MAX: u64 = 1 << 53;

/// See the module.
pub(super) struct Server {
    pub(super) options: RedisOptions,
    pub(super) layout: Layout,
    pub(super) lineage: Lineage,
    torn_file: TornFile,
    /// The newest term that is known.
    term: AtomicU64,
    /// The term in which this process first reached the master.
    first_term: OnceLock<u64>,
    /// The newest epoch that is known.
    epoch: AtomicU64,
    /// The newest epoch of this store that has ended.
    ended: AtomicU64,
    /// The newest epoch that this store gave up by itself.
    abandoned: watch::Sender<Epoch>,
    held: Mutex<Option<Held>>,
    /// Why the server must not be used, as it was found last.
    unfit: Mutex<Option<String>>,
    /// The format of the data, where it is another than ours.
    foreign_format: Mutex<Option<String>>,
}

/// A leadership of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) epoch: Epoch,
    /// The random id under which it was taken. A master that lost it can give the epoch out again, but not the id.
    pub(super) holder: String,
    /// The term in which it was taken.
    pub(super) term: u64,
    /// The least number of its first batch; 0 for any.
    pub(super) least: BatchSeq,
}

impl Server {
    pub(super) fn new(options: RedisOptions, layout: Layout) -> Self {
        Self {
            options,
            layout,
            lineage: Lineage::default(),
            torn_file: TornFile::default(),
            term: AtomicU64::new(0),
            first_term: OnceLock::new(),
            epoch: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            abandoned: watch::Sender::default(),
            held: Mutex::default(),
            unfit: Mutex::default(),
            foreign_format: Mutex::default(),
        }
    }

    /// Connects to the master, and makes sure that it can be used. A fault had no effect.
    pub(super) async fn connect(&self, thoroughly: bool) -> Result<Connected, Fault> {
        self.try_connect(thoroughly).await.map_err(|fault| match fault {
            Fault::Unknown(why) | Fault::Elsewhere(why) => Fault::Refused(why),
            Fault::Silent(_) | Fault::Unscripted => Fault::Refused(fault.reason()),
            fault => fault,
        })
    }

    async fn try_connect(&self, thoroughly: bool) -> Result<Connected, Fault> {
        let Place { endpoint, term } = self.find().await?;
        let mut connection = connection::dial(
            &self.options,
            &endpoint,
            self.options.user.as_ref(),
            self.options.database,
        )
        .await?;
        // The connection itself waits for ever, also where the network has forgotten it.
        let timeout = self.options.timeout;
        let silent = || Fault::Silent(timeout);
        let inspected = connection::within(timeout, fitness::inspect(&mut connection)).await;
        let inspection = inspected.ok_or_else(silent)??;
        let unfit = inspection.unfit(&self.options);
        self.note_unfit(unfit.clone());
        if let Some(unfit) = unfit {
            return Err(Fault::Unfit(unfit));
        }
        inspection.check_role()?;
        let replaced = self.torn_file.replace(&mut connection, &inspection);
        connection::within(timeout, replaced).await.ok_or_else(silent)?;
        let mut hashes = Vec::with_capacity(Script::ALL.len());
        let mut load = redis::pipe();
        for script in Script::ALL {
            load.cmd("SCRIPT").arg("LOAD").arg(script.source());
        }
        let loaded = connection::within(timeout, load.query_async(&mut connection)).await;
        let loaded: Vec<String> = loaded.ok_or_else(silent)??;
        hashes.extend(loaded);
        let connected =
            Connected { connection, hashes, term, has_waitaof: inspection.has_waitaof() };
        if thoroughly {
            let root = &self.layout.root;
            let probe = connected.call(Script::Probe, root);
            let able = answer::text(connected.send(&probe, timeout).await?)?;
            if able != "able" {
                return Err(Fault::Forbidden(format!(
                    "the user of Redis needs more rights: {able}"
                )));
            }
        }
        self.compare(&connected, true).await?;
        self.first_term.get_or_init(|| term);
        Ok(connected)
    }

    /// Looks whether the store has what was seen in it: everything, or what was not looked for yet.
    pub(super) async fn compare(
        &self,
        connected: &Connected,
        everything: bool,
    ) -> Result<(), Fault> {
        let question = self.lineage.question(connected.term, everything);
        let mut call = connected.call(Script::Compare, &self.layout.root);
        call.arg(question.from().0);
        let answer = connected.send(&call, self.options.timeout).await?;
        let (newest, _) = self.lineage.newest();
        if let Some(lost) = self.lineage.compare(&question, answer)? {
            tracing::error!(
                batches = ?lost.batches,
                since = ?lost.since,
                newest = newest.seq.0,
                "acknowledged batches are missing from Redis after a failover or a crash"
            );
            self.abandon(self.epoch());
        }
        Ok(())
    }

    /// Says that batches may be missing where the master became one after the last batch was written, and before this
    /// process came. Processes that were there before know it exactly.
    pub(super) fn judge_failover(&self, term: u64, written_in: u64, found: &Position) {
        let was_there = self.first_term.get().is_some_and(|first| *first < term);
        if written_in < term && found.count > 0 && !was_there {
            self.lineage.may_have_lost(found.at);
            tracing::error!(
                failover = term,
                "the last failover of Redis came after the last batch, and this node was not there: it is unknown \
                 whether acknowledged batches are missing"
            );
        }
    }

    /// Where the master is.
    pub(super) async fn find(&self) -> Result<Place, Fault> {
        let place = match &self.options.servers {
            RedisServers::Single(endpoint) => Place { endpoint: endpoint.clone(), term: 0 },
            RedisServers::Sentinel { sentinels, master } => {
                sentinel::find(&self.options, sentinels, master).await?
            }
        };
        let newest = self.term.fetch_max(place.term, Ordering::AcqRel);
        if place.term > newest {
            self.leave_former_term(place.term);
        }
        if place.term < newest {
            let why = format!("the Sentinels that answer do not know of failover {newest}");
            return Err(Fault::Refused(why));
        }
        Ok(place)
    }

    /// Looks whether a Sentinel knows of a later failover than the one that made this server the master. That no Sentinel
    /// answers is no fault: a leader must be found without them, too.
    pub(super) async fn check_term(&self, connected: &Connected) -> Result<(), Fault> {
        // What it finds is in the newest term.
        let _ = self.find().await;
        let newest = self.term();
        if newest > connected.term {
            return Err(Fault::Elsewhere(format!(
                "failover {newest} made another server the master"
            )));
        }
        Ok(())
    }

    /// Ends a leadership of a former term: the server that is the master now may lack what it wrote.
    fn leave_former_term(&self, term: u64) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = held.filter(|held| held.term < term) {
            tracing::warn!(
                failover = term,
                epoch = held.epoch.0,
                "a failover of Redis ends the leadership"
            );
            self.abandon(held.epoch);
        }
    }

    /// The newest term that is known.
    pub(super) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// The number that epochs and batches exceed in that term, and those that this process has seen.
    pub(super) fn floor(term: u64) -> u64 {
        term << TERM_BITS
    }

    pub(super) fn saw_epoch(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::AcqRel);
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Takes note of a leadership that was won.
    pub(super) fn hold(&self, held: Held) {
        self.saw_epoch(held.epoch);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        // The term may have changed since it was taken.
        self.leave_former_term(self.term());
    }

    /// The leadership of that epoch, unless it is over or another's.
    pub(super) fn held(&self, epoch: Epoch) -> Option<Held> {
        if epoch.0 <= self.ended.load(Ordering::Acquire) {
            return None;
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone().filter(|held| held.epoch == epoch)
    }

    /// Notes that a leadership of this store is over.
    pub(super) fn end(&self, epoch: Epoch) {
        self.ended.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// Gives a leadership of this store up that can't go on.
    pub(super) fn abandon(&self, epoch: Epoch) {
        self.end(epoch);
        self.abandoned.send_if_modified(|newest| {
            let newer = *newest < epoch;
            *newest = (*newest).max(epoch);
            newer
        });
    }

    /// Resolves when the leadership of that epoch was given up here.
    pub(super) async fn abandoned(&self, epoch: Epoch) {
        let mut newest = self.abandoned.subscribe();
        if newest.wait_for(|newest| *newest >= epoch).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn note_unfit(&self, unfit: Option<String>) {
        let mut known = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &unfit
            && *known != unfit
        {
            tracing::error!(%why, "refuses to use Redis as it is set up");
        }
        *known = unfit;
    }

    /// Takes note of the data's format: none is there before the first node comes.
    pub(super) fn check_format(&self, found: &str) -> Result<(), Fault> {
        if found.is_empty() || found == FORMAT.to_string() {
            return Ok(());
        }
        *self.foreign_format.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(found.to_owned());
        Err(Fault::Format(found.to_owned()))
    }

    pub(super) fn foreign_format(&self) -> Option<String> {
        self.foreign_format.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
