//! What a broker does about its place in the cluster, decided without I/O.
//!
//! ```text
//! NoSession --Renewed--> Unregistered --Registered--> Unsettled --Won--> Elected --TookOver--> Settled
//!     ^                                                |  ^  '---------------Lost-----------------^ |
//!     '------------------ Expired, in any stage -------+  '------ ControllerChanged, InDoubt ------'
//! ```
//!
//! Losing the connection alone changes nothing: the session may be there still, and with it the
//! registration. An expired session is over, and what rested on it: whoever was the controller resigns
//! before the next session begins.

use std::time::Duration;

/// The first pause after a failure, and the longest; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The session is over.
    Expired,
    /// `/controller` may have changed.
    ControllerChanged,
    /// What a controller's write did is not known, or another controller has written.
    InDoubt,
    /// Another session has begun.
    Renewed,
    /// The broker is registered.
    Registered,
    /// The broker is the controller of this epoch.
    Won(i32),
    /// Another broker is the controller.
    Lost,
    /// The new controller has completed what others left, and acts from here on.
    TookOver,
    /// The effect under way did not succeed.
    Failed,
    /// A pause is over.
    Rested,
}

/// What is to be done. But for [`Effect::Resign`], each is answered by an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Act as the controller no longer.
    Resign,
    /// Begin another session.
    Renew,
    /// Register the broker.
    Register,
    /// Watch `/controller`, and become the controller if there is none.
    Elect,
    /// Read the cluster anew, complete what others left, and act as the controller.
    TakeOver,
    /// Wait before what failed is tried again.
    Pause(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    NoSession,
    Unregistered,
    Unsettled,
    Elected(i32),
    Settled,
}

/// The place of a broker in its cluster.
#[derive(Debug)]
pub(crate) struct Membership {
    stage: Stage,
    /// The epoch in which the broker acts as the controller.
    leads: Option<i32>,
    /// How many efforts failed one after the other.
    failures: u32,
}

impl Membership {
    /// A broker that has registered and acts as the controller of `epoch`.
    pub(crate) fn controller(epoch: i32) -> Self {
        Self { stage: Stage::Settled, leads: Some(epoch), failures: 0 }
    }

    /// What is to be done now, in this order.
    pub(crate) fn handle(&mut self, event: Event) -> Vec<Effect> {
        let resigned = self.leads.is_some();
        match (self.stage, event) {
            (_, Event::Failed) => {
                let pause = PAUSE * 2_u32.saturating_pow(self.failures.min(16));
                self.failures += 1;
                return vec![Effect::Pause(pause.min(PAUSE_MAX))];
            }
            (Stage::Elected(_), Event::Rested) => self.stage = Stage::Unsettled,
            (_, Event::Rested) => {}
            (_, Event::Expired) => self.resign_to(Stage::NoSession),
            (Stage::NoSession, Event::Renewed) => self.stage = Stage::Unregistered,
            (Stage::Unregistered, Event::Registered) => self.stage = Stage::Unsettled,
            (Stage::Unsettled, Event::Won(epoch)) if self.leads == Some(epoch) => self.settle(),
            (Stage::Unsettled, Event::Won(epoch)) => self.resign_to(Stage::Elected(epoch)),
            (Stage::Unsettled, Event::Lost) => {
                self.leads = None;
                self.settle();
            }
            (Stage::Elected(epoch), Event::TookOver) => {
                self.leads = Some(epoch);
                self.settle();
            }
            (Stage::Settled, Event::ControllerChanged) => self.stage = Stage::Unsettled,
            (Stage::Settled, Event::InDoubt) => self.resign_to(Stage::Unsettled),
            // It belongs to an effort that an earlier event has ended.
            _ => return Vec::new(),
        }
        let resign = (resigned && self.leads.is_none()).then_some(Effect::Resign);
        resign.into_iter().chain(self.next()).collect()
    }

    fn settle(&mut self) {
        self.stage = Stage::Settled;
        self.failures = 0;
    }

    fn resign_to(&mut self, stage: Stage) {
        self.leads = None;
        self.stage = stage;
    }

    fn next(&self) -> Option<Effect> {
        match self.stage {
            Stage::NoSession => Some(Effect::Renew),
            Stage::Unregistered => Some(Effect::Register),
            Stage::Unsettled => Some(Effect::Elect),
            Stage::Elected(_) => Some(Effect::TakeOver),
            Stage::Settled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Effect::{Elect, Pause, Register, Renew, Resign, TakeOver};
    use super::Event::{
        ControllerChanged, Expired, Failed, InDoubt, Lost, Registered, Renewed, Rested, TookOver,
        Won,
    };
    use super::*;

    /// Each event, and what is done about it.
    fn story(membership: &mut Membership, lines: &[(Event, &[Effect])]) {
        for (at, (event, effects)) in lines.iter().enumerate() {
            assert_eq!(membership.handle(*event), *effects, "{at}: {event:?}");
        }
    }

    #[test]
    fn an_expired_session_is_followed_by_another_registration_and_election() {
        let mut membership = Membership::controller(1);
        story(
            &mut membership,
            &[
                (Expired, &[Resign, Renew]),
                (Renewed, &[Register]),
                (Registered, &[Elect]),
                (Won(2), &[TakeOver]),
                (TookOver, &[]),
                (Expired, &[Resign, Renew]),
            ],
        );
    }

    #[test]
    fn whoever_was_faster_is_the_controller_until_it_goes() {
        let mut membership = Membership::controller(1);
        story(
            &mut membership,
            &[
                (Expired, &[Resign, Renew]),
                (Renewed, &[Register]),
                (Registered, &[Elect]),
                (Lost, &[]),
                (ControllerChanged, &[Elect]),
                (Won(3), &[TakeOver]),
                (TookOver, &[]),
                (ControllerChanged, &[Elect]),
                (Lost, &[Resign]),
            ],
        );
    }

    #[test]
    fn a_broker_that_has_won_already_does_not_take_over_again() {
        let mut membership = Membership::controller(7);
        story(&mut membership, &[(ControllerChanged, &[Elect]), (Won(7), &[])]);
        // Unless it does not know what its own writes did.
        story(
            &mut membership,
            &[(InDoubt, &[Resign, Elect]), (Won(7), &[TakeOver]), (TookOver, &[])],
        );
        // A later epoch is another term, with what may have happened between the two.
        story(
            &mut membership,
            &[(ControllerChanged, &[Elect]), (Won(9), &[Resign, TakeOver]), (TookOver, &[])],
        );
    }

    #[test]
    fn what_fails_is_tried_again_with_longer_and_longer_pauses() {
        let mut membership = Membership::controller(1);
        story(&mut membership, &[(Expired, &[Resign, Renew])]);
        for pause_ms in [100, 200, 400, 800, 1600, 2000, 2000] {
            let pause = Duration::from_millis(pause_ms);
            story(&mut membership, &[(Failed, &[Pause(pause)]), (Rested, &[Renew])]);
        }
        story(
            &mut membership,
            &[
                (Renewed, &[Register]),
                (Failed, &[Pause(PAUSE_MAX)]),
                (Rested, &[Register]),
                (Registered, &[Elect]),
                (Failed, &[Pause(PAUSE_MAX)]),
                (Rested, &[Elect]),
                (Won(2), &[TakeOver]),
                // Whether it is the controller still is not known.
                (Failed, &[Pause(PAUSE_MAX)]),
                (Rested, &[Elect]),
                (Won(2), &[TakeOver]),
                (TookOver, &[]),
                (ControllerChanged, &[Elect]),
                (Failed, &[Pause(PAUSE)]),
            ],
        );
    }

    #[test]
    fn a_session_can_end_in_any_stage() {
        let way = [Expired, Renewed, Registered, Won(2), TookOver];
        for length in 0..=way.len() {
            let mut membership = Membership::controller(1);
            way[..length].iter().for_each(|event| drop(membership.handle(*event)));
            let effects = membership.handle(Expired);
            let leads = matches!(length, 0 | 5);
            let expected = if leads { vec![Resign, Renew] } else { vec![Renew] };
            assert_eq!(effects, expected, "after {:?}", &way[..length]);
            assert_eq!(membership.handle(TookOver), [], "what was under way is over too");
        }
    }
}
