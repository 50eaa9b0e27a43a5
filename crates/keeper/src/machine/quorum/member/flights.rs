//! Entries on their way to the other voters.
//!
//! The library answers every voter that lacks entries with all that it lacks, also while these are on
//! their way: with many proposals under way, each would be sent once for each that came before it. Here
//! they are held back for a while. Not to send is always safe.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::entry::VoterId;

/// By voter, what was sent to it and not yet answered.
#[derive(Debug, Default)]
pub(super) struct Flights(BTreeMap<VoterId, Flight>);

/// Entries behind `acknowledged` and up to `sent`.
#[derive(Clone, Copy, Debug)]
struct Flight {
    acknowledged: u64,
    sent: u64,
    /// When the first of them was sent, or one before it acknowledged.
    since: Duration,
}

impl Flights {
    /// Whether to send entries behind `after` and up to `last` to a voter: not if they are on their way
    /// for less than `patience`. Notes that they are if so.
    pub(super) fn take_off(
        &mut self,
        to: VoterId,
        (after, last): (u64, u64),
        now: Duration,
        patience: Duration,
    ) -> bool {
        let flight = self.0.entry(to);
        let flight = flight.or_insert(Flight { acknowledged: after, sent: after, since: now });
        let is_covered = after >= flight.acknowledged && last <= flight.sent;
        if is_covered && now < flight.since + patience {
            return false;
        }
        if after == flight.sent && after > flight.acknowledged {
            flight.sent = last;
        } else {
            *flight = Flight { acknowledged: after, sent: last, since: now };
        }
        true
    }

    /// Notes what a voter has said to have.
    pub(super) fn land(&mut self, from: VoterId, last: u64, now: Duration) {
        if let Some(flight) = self.0.get_mut(&from)
            && last > flight.acknowledged
        {
            flight.acknowledged = last;
            flight.sent = flight.sent.max(last);
            flight.since = now;
        }
    }

    /// Forgets all: who leads anew knows nothing.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_on_its_way_is_not_sent_again_for_a_while() {
        let mut flights = Flights::default();
        assert!(flights.take_off(2, (0, 1), ms(0), PATIENCE));
        assert!(flights.take_off(2, (1, 2), ms(10), PATIENCE));
        assert!(!flights.take_off(2, (0, 2), ms(20), PATIENCE));
        flights.land(2, 1, ms(30));
        assert!(!flights.take_off(2, (1, 2), ms(60), PATIENCE));
        assert!(flights.take_off(2, (1, 2), ms(80), PATIENCE));
        assert!(flights.take_off(3, (1, 2), ms(80), PATIENCE));
    }

    #[test]
    fn what_was_lost_is_sent_again_however_much_follows() {
        let mut flights = Flights::default();
        assert!(flights.take_off(2, (0, 1), ms(0), PATIENCE));
        // The voter has nothing, and more and more is sent.
        for n in 1..5 {
            assert!(flights.take_off(2, (n, n + 1), ms(10 * n), PATIENCE));
            assert!(!flights.take_off(2, (0, n + 1), ms(10 * n), PATIENCE));
        }
        assert!(flights.take_off(2, (0, 5), ms(50), PATIENCE));
    }

    #[test]
    fn what_lies_before_the_flight_is_sent_at_once() {
        let mut flights = Flights::default();
        assert!(flights.take_off(2, (7, 8), ms(0), PATIENCE));
        assert!(flights.take_off(2, (3, 8), ms(1), PATIENCE));
        assert!(!flights.take_off(2, (3, 8), ms(2), PATIENCE));
    }
}
