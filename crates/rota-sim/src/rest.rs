//! Notices that a machine does not come to rest.
//!
//! Simulated time goes on only when every machine has nothing more to do at the present moment. A loop
//! that asks the time or the world again and again without ever waiting would hold it up for ever, so
//! these questions are counted: beyond a number that no sound run comes near, the machine is stopped.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

/// Questions that a machine may ask within a tick. A node that loads its backlog asks thousands.
const QUESTIONS_MAX: u64 = 2_000_000;

/// Counts for the machine that runs at present. All machines run on one thread.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    questions: AtomicU64,
    restless: AtomicBool,
    /// Wakes who drives the machine.
    driver: Mutex<Option<Waker>>,
}

impl Rest {
    /// A machine's tick begins, which `driver` can end.
    pub(crate) fn begin(&self, driver: &Waker) {
        self.questions.store(0, Ordering::Relaxed);
        let mut known = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(driver)) {
            *known = Some(driver.clone());
        }
    }

    /// Something of the machine asks for the time or the world.
    pub(crate) fn asked(&self) {
        // There is one thread, so nothing comes in between.
        let questions = self.questions.load(Ordering::Relaxed) + 1;
        self.questions.store(questions, Ordering::Relaxed);
        if questions >= QUESTIONS_MAX {
            self.restless.store(true, Ordering::Relaxed);
            let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
            driver.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Whether the machine that ran last had to be stopped.
    pub(crate) fn is_missed(&self) -> bool {
        self.restless.load(Ordering::Relaxed)
    }
}
