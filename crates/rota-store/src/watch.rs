//! A watched value that wakes its waiters in the order in which they came.
//!
//! tokio's `watch` channel wakes waiters in a random order, to spread them over several locks, and its
//! randomness cannot be seeded. The simulator must repeat runs exactly, so code in the simulator uses this
//! type. The names are those of tokio.

use std::{
    ops::Deref,
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use thiserror::Error;
use tokio::sync::Notify;

/// The value will not change any more, because all senders are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the watched value has no sender any more")]
pub struct Closed;

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    closed: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: RwLock<State<T>>,
    changed: Notify,
    receivers: AtomicUsize,
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        // A writer that panicked leaves the previous, consistent value.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiver(self: &Arc<Self>, seen: u64) -> Receiver<T> {
        self.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver { shared: self.clone(), seen }
    }
}

/// The sender. Dropping it tells waiters that the value will not change any more.
#[derive(Debug)]
struct Owners<T>(Arc<Shared<T>>);

impl<T> Drop for Owners<T> {
    fn drop(&mut self) {
        self.0.write().closed = true;
        self.0.changed.notify_waiters();
    }
}

/// Changes the value.
#[derive(Debug)]
pub struct Sender<T>(Arc<Owners<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A receiver. It reads the value, waits for changes, and remembers the last version that it has seen.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receiver(self.seen)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reference to the current value. It blocks changes while it exists, so keep it only for a short time.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, State<T>>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

/// A sender, and a receiver that has seen the value.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A sender with this value.
    pub fn new(value: T) -> Self {
        let state = RwLock::new(State { value, version: 0, closed: false });
        let shared = Shared { state, changed: Notify::new(), receivers: AtomicUsize::new(0) };
        Self(Arc::new(Owners(Arc::new(shared))))
    }

    /// A receiver that has seen the current value.
    pub fn subscribe(&self) -> Receiver<T> {
        let version = self.0.0.read().version;
        self.0.0.receiver(version)
    }

    /// Whether there are no receivers.
    pub fn is_closed(&self) -> bool {
        self.0.0.receivers.load(Ordering::Relaxed) == 0
    }

    /// The current value.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.0.read())
    }

    /// Changes the value. Wakes waiters if `modify` returns true.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = {
            let mut state = self.0.0.write();
            let modified = modify(&mut state.value);
            state.version += u64::from(modified);
            modified
        };
        if modified {
            self.0.0.changed.notify_waiters();
        }
        modified
    }

    /// Changes the value.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Replaces the value, and returns the former one.
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|known| std::mem::swap(known, &mut value));
        value
    }
}

impl<T> Receiver<T> {
    /// The current value, without marking it as seen.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }

    /// The current value, marked as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let state = self.shared.read();
        self.seen = state.version;
        Ref(state)
    }

    /// Marks the current value as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.read().version;
    }

    /// Resolves when the value differs from the last seen one, and marks it as seen. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // Registers first, so that no change after the check of the version is missed.
            changed.as_mut().enable();
            {
                let state = self.shared.read();
                if state.version != self.seen {
                    self.seen = state.version;
                    return Ok(());
                }
                if state.closed {
                    return Err(Closed);
                }
            }
            changed.await;
        }
    }

    /// Resolves when the value satisfies the condition, possibly at once, and marks it as seen. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Closed> {
        loop {
            let is_wanted = {
                let state = self.shared.read();
                self.seen = state.version;
                wanted(&state.value)
            };
            if is_wanted {
                return Ok(self.borrow());
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_came() {
        let (sender, receiver) = channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..100 {
            let (mut receiver, woken) = (receiver.clone(), woken.clone());
            waiting.push(tokio::spawn(async move {
                receiver.changed().await.unwrap();
                woken.lock().unwrap().push(number);
            }));
        }
        // The runtime polls some dozens of tasks between two polls of this one.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        sender.send_replace(1);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_is_seen_once_also_when_it_came_before() {
        let (sender, mut receiver) = channel(0);
        sender.send_replace(1);
        receiver.changed().await.unwrap();
        let again = std::future::poll_fn(|context| {
            std::task::Poll::Ready(pin!(receiver.changed()).poll(context).is_ready())
        });
        assert!(!again.await);
        assert_eq!(*receiver.borrow(), 1);
        assert!(!sender.send_if_modified(|_| false));
        drop(sender);
        assert_eq!(receiver.changed().await, Err(Closed));
        assert_eq!(*receiver.wait_for(|value| *value == 1).await.unwrap(), 1);
        assert!(receiver.wait_for(|value| *value == 2).await.is_err());
    }

    #[test]
    fn a_sender_knows_whether_anybody_watches() {
        let (sender, receiver) = channel(());
        let other = receiver.clone();
        drop(receiver);
        assert!(!sender.is_closed());
        drop(other);
        assert!(sender.is_closed());
    }
}
