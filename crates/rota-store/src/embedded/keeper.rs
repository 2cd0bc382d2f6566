//! Keeps the engine running: opens it, resolves failed writes, opens it again after a full disk, and refuses
//! to continue with damaged data.
//!
//! A failed write leaves the engine unusable, and its bytes may or may not be in the journal. The keeper
//! closes the engine, truncates those bytes, and opens it again. Then it is certain that the batch was not
//! written. Only if this fails, the outcome stays unknown.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Observed, Shared,
    acknowledged::Acknowledged,
    directory::{Directory, free_bytes},
    engine::{Engine, Found},
    fault::Fault,
    journal::{self, Journal},
    options::EmbeddedOptions,
};
use crate::{
    model::{Batch, Epoch, Head, Space},
    store::CommitError,
};

/// Interval of checks.
const PAUSE: Duration = Duration::from_millis(1);
/// Timeout for the threads of the engine to close the journal.
const RELEASE_MAX: Duration = Duration::from_secs(10);
/// Interval at which the record of acknowledged batches is updated.
const NOTE_INTERVAL: Duration = Duration::from_secs(2);
/// An engine that fails again within this time after opening is checked for damage.
const RECENT: Duration = Duration::from_secs(60);
/// Minimum free space after a full disk before writes are tried again.
const WANTED_MIN: u64 = 1 << 20;
/// Maximum number of consecutive openings for one write.
const ATTEMPTS_MAX: u32 = 2;

/// The engine, and the data to open it again.
pub(super) struct Keeper {
    shared: Option<Arc<Shared>>,
    directory: Directory,
    spaces: Vec<Space>,
    options: EmbeddedOptions,
    acknowledged: Acknowledged,
    noted: Instant,
    /// The engine. `None` while it cannot be opened.
    engine: Option<Arc<Engine>>,
    opened: Instant,
    generation: u64,
    /// The last durable batch.
    head: Head,
    /// A batch whose write failed and that may still be in the journal.
    unsettled: Option<Head>,
    /// Bytes that a write needed on a full disk. 0 after a successful write.
    wanted: u64,
    /// The damage, if there is some. The store cannot continue then.
    damage: Option<String>,
}

impl Keeper {
    /// Opens the engine on a directory, and checks that no acknowledged batch is missing.
    pub(super) fn open(
        directory: Directory,
        spaces: &[Space],
        options: EmbeddedOptions,
    ) -> Result<(Self, Found), Fault> {
        let at = || directory.path().display().to_string();
        if directory.database().exists() && !Acknowledged::is_there(directory.path()) {
            let why =
                "the file `acknowledged` is missing, so other missing data cannot be detected";
            return Err(Fault::Damaged(format!("{}: {why}", at())));
        }
        let acknowledged = Acknowledged::open(directory.path())
            .map_err(|error| Fault::from_io(&error).at(&at()))?;
        let mut keeper = Self {
            shared: None,
            head: acknowledged.noted(),
            directory,
            spaces: spaces.to_vec(),
            options,
            acknowledged,
            noted: Instant::now(),
            engine: None,
            opened: Instant::now(),
            generation: 0,
            unsettled: None,
            wanted: 0,
            damage: None,
        };
        let found = keeper.open_engine()?;
        keeper.head = found.head;
        keeper.note();
        Ok((keeper, found))
    }

    /// Gives readers the engine, now and after each opening.
    pub(super) fn share(&mut self, shared: &Arc<Shared>) {
        shared.set_engine(self.engine.clone());
        self.shared = Some(Arc::clone(shared));
    }

    pub(super) fn has_space(&self, name: &str) -> bool {
        self.spaces.iter().any(|space| space.name == name)
    }

    /// The last durable batch.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// The same, once no failed write can change it any more.
    pub(super) fn settled_head(&mut self) -> Result<Head, Fault> {
        if self.unsettled.is_some() {
            self.reopen()?;
        }
        Ok(self.head)
    }

    /// Writes a batch. All errors except an ambiguous one mean that it was not written and never will be.
    pub(super) fn write(&mut self, batch: &Batch, head: Head) -> Result<(), CommitError> {
        let outcome = self.try_write(batch, head);
        match &outcome {
            Ok(()) => {
                self.wanted = 0;
                self.head = head;
                // The first batch is recorded at once, so that an empty journal counts as a loss from then
                // on.
                if self.acknowledged.noted() == Head::default() {
                    self.note();
                }
            }
            Err(CommitError::Full(_)) => self.wanted = WANTED_MIN + 2 * batch.bytes() as u64,
            Err(_) => {}
        }
        outcome
    }

    fn try_write(&mut self, batch: &Batch, head: Head) -> Result<(), CommitError> {
        self.check_room(batch.bytes() as u64).map_err(CommitError::Full)?;
        let engine = self.writable()?;
        let Err(fault) = engine.write(batch, head) else { return Ok(()) };
        drop(engine);
        self.unsettled = Some(head);
        tracing::warn!(%fault, batch = head.seq.0, "write failed");
        Err(match self.reopen() {
            Ok(()) => fault.into(),
            Err(then) => CommitError::Ambiguous(format!("{fault}; then: {then}")),
        })
    }

    /// Sets the newest epoch. After a failure the epoch may be used up, but nobody has it.
    pub(super) fn write_epoch(&mut self, epoch: Epoch) -> Result<(), Fault> {
        let engine = self.writable()?;
        let outcome = engine.write_epoch(epoch);
        drop(engine);
        if outcome.is_err() {
            self.reopen()?;
        }
        outcome
    }

    /// Maintains the engine, and returns its state.
    pub(super) fn maintain(&mut self) {
        let room = self.check_room(self.wanted);
        if room.is_ok() {
            self.wanted = 0;
        }
        let healthy = match &self.engine {
            Some(engine) => engine.check(),
            None => Err(Fault::Stopped),
        };
        let health = match healthy {
            // On a full disk it would only fail again.
            Err(_) if room.is_ok() => self.revive(),
            health => health,
        };
        if self.noted.elapsed() >= NOTE_INTERVAL {
            self.note();
        }
        let damage = self.damage.clone();
        let problem = damage.or(room.err()).or(health.err().map(|fault| fault.to_string()));
        let free = free_bytes(self.directory.path()).ok();
        let pressure = free.and_then(|free| self.pressure(free));
        let used = self.engine.as_ref().and_then(|engine| engine.bytes_used().ok());
        if let Some(shared) = &self.shared {
            shared.observed(Observed { used, free, problem, pressure });
        }
    }

    /// Closes the engine, and records the last batch.
    pub(super) fn close(mut self) {
        self.release_engine();
        self.note();
    }

    /// The engine, once it can accept a write.
    fn writable(&mut self) -> Result<Arc<Engine>, Fault> {
        let mut attempts = 0;
        loop {
            let health = match &self.engine {
                Some(engine) => engine.check(),
                None => Err(Fault::Stopped),
            };
            match (health, &self.engine) {
                (Ok(()), Some(engine)) if !engine.is_behind() => return Ok(Arc::clone(engine)),
                (Ok(()), _) => thread::sleep(PAUSE),
                (Err(fault), _) if attempts == ATTEMPTS_MAX => return Err(fault),
                (Err(_), _) => {
                    attempts += 1;
                    self.revive()?;
                }
            }
        }
    }

    /// Opens an engine again that stopped after a failure.
    fn revive(&mut self) -> Result<(), Fault> {
        if let Some(damage) = &self.damage {
            return Err(Fault::Damaged(damage.clone()));
        }
        if self.opened.elapsed() < RECENT
            && let Some(engine) = &self.engine
        {
            tracing::warn!("storage engine fails repeatedly; reading all data to find damage");
            let outcome = engine.verify();
            self.note_damage(outcome)?;
        }
        self.reopen()
    }

    fn note_damage<T>(&mut self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(Fault::Damaged(damage)) = &outcome {
            tracing::error!(%damage, "data is damaged");
            self.damage = Some(damage.clone());
        }
        outcome
    }

    /// Closes the engine, if it is open, and opens it again.
    fn reopen(&mut self) -> Result<(), Fault> {
        tracing::info!("reopening the storage engine");
        self.release_engine();
        let outcome = self.open_engine();
        let found = self.note_damage(outcome)?;
        self.head = found.head;
        self.unsettled = None;
        if let Some(shared) = &self.shared {
            shared.set_engine(self.engine.clone());
        }
        Ok(())
    }

    /// Opens the engine after the last durable batch. Later data is truncated, and missing earlier data means
    /// damage.
    fn open_engine(&mut self) -> Result<Found, Fault> {
        let path = self.directory.database();
        if path.exists() {
            Journal::inspect(&path)?.cut(self.unsettled, self.head)?;
        }
        let (engine, found) =
            Engine::open(&path, &self.spaces, &self.options, self.generation + 1)?;
        if found.head.seq < self.head.seq {
            return Err(Fault::Damaged(format!(
                "{}: the data ends at batch {}, but batch {} was acknowledged",
                path.display(),
                found.head.seq,
                self.head.seq
            )));
        }
        self.generation += 1;
        self.opened = Instant::now();
        self.engine = Some(Arc::new(engine));
        Ok(found)
    }

    /// Closes the engine when its reads are done, and waits until its threads can no longer write to the
    /// journal.
    fn release_engine(&mut self) {
        if let Some(shared) = &self.shared {
            shared.set_engine(None);
        }
        let Some(mut engine) = self.engine.take() else { return };
        loop {
            match Arc::try_unwrap(engine) {
                Ok(engine) => break drop(engine),
                Err(used) => engine = used,
            }
            thread::sleep(PAUSE);
        }
        let (database, began) = (self.directory.database(), Instant::now());
        while journal::is_open(&database) && began.elapsed() < RELEASE_MAX {
            thread::sleep(PAUSE);
        }
    }

    /// Why new tasks must be refused: less than twice the reserve is free. The rest is for running tasks to
    /// end.
    fn pressure(&self, free: u64) -> Option<String> {
        let wanted = self.options.reserve_bytes.saturating_mul(2);
        let path = self.directory.path().display();
        (free < wanted).then(|| {
            format!(
                "the disk of {path} is nearly full: {free} bytes are free, but new tasks need {wanted}"
            )
        })
    }

    fn check_room(&self, bytes: u64) -> Result<(), String> {
        let path = self.directory.path().display();
        let free = free_bytes(self.directory.path())
            .map_err(|error| format!("cannot read the free space of {path}: {error}"))?;
        let reserve = self.options.reserve_bytes;
        if free < reserve.saturating_add(bytes) {
            return Err(format!(
                "the disk of {path} is full: {free} bytes are free, {reserve} must stay free, and the next \
                              batch needs up to {bytes}"
            ));
        }
        Ok(())
    }

    fn note(&mut self) {
        self.noted = Instant::now();
        if let Err(error) = self.acknowledged.note(self.head) {
            tracing::debug!(%error, "cannot record the acknowledged batch");
        }
    }
}
