//! Sets of leases by any id of their tasks, to compare the leases of a worker with those of its session.

use rota_core::{ClientKeys, LeaseId, LeaseToken};
use rustc_hash::FxHashSet;

use crate::api::{StopOrder, TaskRef};

/// A lease by either id of its task: the one that Rota gave it, or the one that its client chose.
pub(crate) type NamedLease = (TaskRef, LeaseToken);

/// A set of leases with constant lookup time, because a worker can hold thousands.
#[derive(Debug, Default)]
pub(super) struct Leases(FxHashSet<NamedLease>);

impl Leases {
    /// The leases that a worker names.
    pub(super) fn named(leases: &[NamedLease]) -> Self {
        Self(leases.iter().cloned().collect())
    }

    /// The leases of these orders.
    pub(super) fn of_orders(orders: &[StopOrder]) -> Self {
        let shown = |order: &StopOrder| Some((order.shown_id.parse().ok()?, order.token));
        let ids = orders.iter().map(|order| (order.task.clone(), order.token));
        Self(ids.chain(orders.iter().filter_map(shown)).collect())
    }

    /// Adds a lease by all ids of its task.
    pub(super) fn add(&mut self, lease: LeaseId, client_keys: &ClientKeys) {
        self.0.insert((TaskRef::Id(lease.task), lease.token));
        let name = client_keys.id.clone().map(|name| (TaskRef::Named(name), lease.token));
        self.0.extend(name);
    }

    /// Whether it contains a lease, by any id of its task.
    pub(super) fn has(&self, lease: LeaseId, client_keys: &ClientKeys) -> bool {
        let named = |name| self.names(&(TaskRef::Named(name), lease.token));
        self.names(&(TaskRef::Id(lease.task), lease.token))
            || client_keys.id.clone().is_some_and(named)
    }

    /// Whether it contains a lease by exactly this id.
    pub(super) fn names(&self, lease: &NamedLease) -> bool {
        self.0.contains(lease)
    }
}

#[cfg(test)]
mod tests {
    use rota_core::{Name, StopReason, TaskId};

    use super::*;

    #[test]
    fn a_lease_is_found_by_either_name_and_its_own_token() {
        let task = TaskId::from_u64(1).expect("not 0");
        let lease = LeaseId { task, token: LeaseToken(7) };
        let mine = Name::new("mine").expect("a name");
        let client_keys = ClientKeys { id: Some(mine.clone()), key: None };
        let (by_id, by_name) = (TaskRef::Id(task), TaskRef::Named(mine));
        for name in [&by_id, &by_name] {
            let said = |token| Leases::named(&[(name.clone(), LeaseToken(token))]);
            assert!(
                said(7).has(lease, &client_keys) && !said(8).has(lease, &client_keys),
                "{name}"
            );
        }
        assert!(
            !Leases::named(&[(by_name.clone(), lease.token)]).has(lease, &ClientKeys::default())
        );
        let mut holds = Leases::default();
        holds.add(lease, &client_keys);
        for name in [by_id, by_name] {
            assert!(holds.names(&(name.clone(), LeaseToken(7))), "{name}");
            assert!(!holds.names(&(name.clone(), LeaseToken(8))), "{name}");
        }
    }

    #[test]
    fn what_an_order_is_about_is_found_by_either_name() {
        let task = TaskRef::Id(TaskId::from_u64(1).expect("not 0"));
        let (token, reason) = (LeaseToken(7), StopReason::Timeout);
        let order = StopOrder { task: task.clone(), shown_id: "mine".to_owned(), token, reason };
        let known = Leases::of_orders(&[order]);
        for name in [task, TaskRef::Named(Name::new("mine").expect("a name"))] {
            assert!(known.names(&(name.clone(), token)), "{name}");
            assert!(!known.names(&(name.clone(), LeaseToken(8))), "{name}");
        }
    }
}
