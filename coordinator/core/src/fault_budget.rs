//! How much a peer is forgiven: faults, after which it is turned away for a time, and leases returned undone, after
//! which it has to rest. Both are counted by who stands behind a worker (its certificate, or else its address) and not
//! by the worker's number or name, so that joining again gains nothing.
//!
//! Both are token buckets. An honest worker of the same version commits no fault; it returns leases for want of
//! memory or of files, which comes in bursts and passes, and each accepted answer of the same peer makes up for one.

use std::{collections::BTreeMap, fmt};

use crate::time::Millis;

/// Who stands behind a worker: the name in its certificate or token, or else its address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(pub String);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Faults after which a peer is turned away.
    pub faults: u32,
    /// Time in which one fault is forgiven.
    pub fault_forgiven: Millis,
    /// How long it is turned away.
    pub turned_away: Millis,
    /// Leases returned undone after which a worker has to rest.
    pub returns: u32,
    /// Time in which one return is forgiven.
    pub return_forgiven: Millis,
    /// How long it has to rest.
    pub rest: Millis,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            faults: 8,
            fault_forgiven: 60_000,
            turned_away: 600_000,
            returns: 32,
            return_forgiven: 10_000,
            rest: 15_000,
        }
    }
}

/// Peers that are remembered at most.
const MAX_PEERS: usize = 4096;

/// What was spent of a budget, of which a part is given back in each stretch of time.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    count: u32,
    /// When something was given back last, or else spent first.
    since: Millis,
}

impl Spent {
    fn forgive(&mut self, now: Millis, every: Millis) {
        let forgiven = now.saturating_sub(self.since) / every.max(1);
        self.count = self
            .count
            .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.since += forgiven * every.max(1);
    }

    /// Counts one more. Says whether that uses up a budget of `most`.
    fn spend(&mut self, now: Millis, every: Millis, most: u32) -> bool {
        self.forgive(now, every);
        if self.count == 0 {
            self.since = now;
        }
        self.count = (self.count + 1).min(most.max(1));
        self.count >= most
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    faults: Spent,
    returns: Spent,
    /// It is turned away until then.
    away: Millis,
}

/// The accounts of all peers that have spent something.
#[derive(Clone, Debug, Default)]
pub struct FaultBudgets {
    config: BudgetConfig,
    accounts: BTreeMap<Peer, Account>,
}

impl FaultBudgets {
    /// Nobody has spent anything.
    pub const fn new(config: BudgetConfig) -> Self {
        Self {
            config,
            accounts: BTreeMap::new(),
        }
    }

    /// Counts a fault. Gives for how many milliseconds the peer is turned away, if it is.
    pub fn fault(&mut self, now: Millis, peer: &Peer) -> Option<Millis> {
        let config = self.config;
        let account = self.account(now, peer);
        let used_up = account
            .faults
            .spend(now, config.fault_forgiven, config.faults);
        if used_up {
            account.away = now.saturating_add(config.turned_away);
        }
        used_up.then_some(config.turned_away)
    }

    /// Counts a lease that was returned undone. Gives for how many milliseconds the worker that returned it has to
    /// rest, if it has to.
    pub fn returned(&mut self, now: Millis, peer: &Peer) -> Option<Millis> {
        let config = self.config;
        let account = self.account(now, peer);
        let used_up = account
            .returns
            .spend(now, config.return_forgiven, config.returns);
        used_up.then_some(config.rest)
    }

    /// An answer was accepted, which makes up for a return.
    pub fn accepted(&mut self, peer: &Peer) {
        if let Some(account) = self.accounts.get_mut(peer) {
            account.returns.count = account.returns.count.saturating_sub(1);
        }
    }

    /// For how many milliseconds a peer is turned away still.
    pub fn turned_away(&self, now: Millis, peer: &Peer) -> Option<Millis> {
        let left = self.accounts.get(peer)?.away.saturating_sub(now);
        (left > 0).then_some(left)
    }

    /// How long a worker that joins has to rest, because its peer has used up its returns.
    pub fn rest_at_join(&mut self, now: Millis, peer: &Peer) -> Millis {
        let config = self.config;
        let Some(account) = self.accounts.get_mut(peer) else {
            return 0;
        };
        account.returns.forgive(now, config.return_forgiven);
        match account.returns.count >= config.returns {
            true => config.rest,
            false => 0,
        }
    }

    fn account(&mut self, now: Millis, peer: &Peer) -> &mut Account {
        if !self.accounts.contains_key(peer) && self.accounts.len() >= MAX_PEERS {
            self.make_room(now);
        }
        self.accounts.entry(peer.clone()).or_default()
    }

    /// Forgets those that have spent nothing, or else the one that has spent least.
    fn make_room(&mut self, now: Millis) {
        let config = self.config;
        for account in self.accounts.values_mut() {
            account.faults.forgive(now, config.fault_forgiven);
            account.returns.forgive(now, config.return_forgiven);
        }
        let spent = |one: &Account| {
            (
                one.away.saturating_sub(now),
                one.faults.count,
                one.returns.count,
            )
        };
        self.accounts.retain(|_, one| spent(one) != (0, 0, 0));
        if self.accounts.len() >= MAX_PEERS {
            let least = self.accounts.iter().min_by_key(|(_, one)| spent(one));
            if let Some(peer) = least.map(|(peer, _)| peer.clone()) {
                self.accounts.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Peer {
        Peer(name.to_owned())
    }

    #[test]
    fn a_peer_is_turned_away_for_a_time_and_faults_are_forgiven_slowly() {
        let mut budgets = FaultBudgets::new(BudgetConfig::default());
        let (bad, other) = (peer("10.0.0.3"), peer("10.0.0.4"));
        for _ in 0..7 {
            assert_eq!(budgets.fault(1000, &bad), None);
        }
        assert_eq!(budgets.fault(1000, &other), None);
        assert_eq!(budgets.fault(1000, &bad), Some(600_000));
        assert_eq!(budgets.turned_away(1000, &bad), Some(600_000));
        assert_eq!(budgets.turned_away(600_999, &bad), Some(1));
        assert_eq!(budgets.turned_away(601_000, &bad), None);
        assert_eq!(budgets.turned_away(1000, &other), None);
        // One a minute is a fault of hardware that comes and goes, and forgiven.
        for minute in 0..100 {
            assert_eq!(budgets.fault(1_000_000 + 60_000 * minute, &other), None);
        }
    }

    #[test]
    fn returns_without_end_make_rest_and_answers_make_up_for_them() {
        let mut budgets = FaultBudgets::new(BudgetConfig::default());
        let (idler, busy) = (peer("idler"), peer("busy"));
        let told: Vec<_> = (0..33).map(|_| budgets.returned(0, &idler)).collect();
        assert!(told[..31].iter().all(Option::is_none));
        assert_eq!(told[31..], [Some(15_000), Some(15_000)]);
        // Another worker of the same peer gains nothing.
        assert_eq!(budgets.rest_at_join(9_999, &idler), 15_000);
        assert_eq!(budgets.rest_at_join(10_000, &idler), 0);
        assert_eq!(budgets.rest_at_join(0, &busy), 0);
        for _ in 0..1000 {
            assert_eq!(budgets.returned(0, &busy), None);
            budgets.accepted(&busy);
        }
    }

    #[test]
    fn accounts_are_bounded_and_who_is_turned_away_is_remembered() {
        let mut budgets = FaultBudgets::new(BudgetConfig::default());
        let bad = peer("bad");
        for _ in 0..8 {
            budgets.fault(0, &bad);
        }
        for number in 0..2 * MAX_PEERS {
            budgets.returned(0, &peer(&number.to_string()));
        }
        assert!(budgets.accounts.len() <= MAX_PEERS);
        assert!(budgets.turned_away(0, &bad).is_some());
    }
}
