//! Judges whether what clients saw of a znode can have happened one after the other.
//!
//! The znode holds a number, has sequential children, and a lock: an ephemeral child. A history of calls
//! and answers is linearizable if each call took effect at one moment between the two. The search is
//! Wing and Gong's with Lowe's memory, from the library `todc-utils`.

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// Make the znode, with this number.
    Create(u32),
    /// Replace the number, if the version is this one.
    Set(u32, Option<i32>),
    /// Remove the znode.
    Delete,
    /// Make a sequential child.
    Append,
    /// Make the lock, for this session.
    Lock(i64),
    /// End this session.
    End(i64),
    /// What is there?
    Read,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    /// It is done.
    Done,
    /// It is done, and the znode has this version.
    Version(i32),
    /// It is done, and the child has this number.
    Number(u32),
    /// What is there; nothing if there is no znode.
    Found(Option<Seen>),
    /// There is no znode.
    NoNode,
    /// There is one already.
    NodeExists,
    /// The version is another one.
    BadVersion,
    /// It has children.
    NotEmpty,
    /// It was refused before anything was written.
    Nothing,
    /// It may be done, or never will be.
    Unknown,
}

/// What a read shows of a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// What it holds.
    pub number: u32,
    /// How often that was replaced.
    pub version: i32,
    /// How many children it has, the lock among them.
    pub children: u32,
}

/// What several clients asked of one znode, which did not exist at first, and were answered.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// By the number of the call.
    asked: Vec<Asked>,
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
enum Event {
    Call(usize),
    Answer(usize, Answered),
}

impl Judge {
    /// Notes a call, and gives it a number.
    pub fn call(&mut self, asked: Asked) -> usize {
        self.asked.push(asked);
        self.events.push(Event::Call(self.asked.len() - 1));
        self.asked.len() - 1
    }

    /// Notes the answer to a call. What is never answered is unknown.
    pub fn answer(&mut self, call: usize, answered: Answered) {
        if answered != Answered::Unknown {
            self.events.push(Event::Answer(call, answered));
        }
    }

    /// How many calls have no answer so far, or will never have one. The search may take twice as
    /// long for each.
    #[must_use]
    pub fn unknown(&self) -> usize {
        let answered = self.events.iter().filter(|event| matches!(event, Event::Answer(..)));
        self.asked.len() - answered.count()
    }

    /// Whether somebody has asked that.
    #[must_use]
    pub fn was_asked(&self, asked: &Asked) -> bool {
        self.asked.contains(asked)
    }

    /// How many calls there are.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.asked.len()
    }

    /// Whether it can have happened one after the other.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        let mut answers = vec![Answered::Unknown; self.asked.len()];
        for event in &self.events {
            if let Event::Answer(call, answered) = event {
                answers[*call] = answered.clone();
            }
        }
        // What was refused before anything was written says nothing about what is there.
        let counts = |call: &usize| answers[*call] != Answered::Nothing;
        let step = |call: usize| (self.asked[call].clone(), answers[call].clone());
        // Each call is a process of its own: one without an answer keeps nobody from going on.
        let mut actions: Vec<_> = self
            .events
            .iter()
            .map(|event| match *event {
                Event::Call(call) => (call, Action::Call(step(call))),
                Event::Answer(call, _) => (call, Action::Response(step(call))),
            })
            .filter(|(call, _)| counts(call))
            .collect();
        // What is unknown may take effect at any time, or after all that was seen: so not at all.
        let unknown = (0..self.asked.len()).filter(|&call| answers[call] == Answered::Unknown);
        actions.extend(unknown.map(|call| (call, Action::Response(step(call)))));
        actions.is_empty() || WGLChecker::<Znode>::is_linearizable(History::from_actions(actions))
    }
}

/// The znode as a specification.
struct Znode;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    number: u32,
    version: i32,
    /// Children that were ever made.
    made: u32,
    /// Sequential children, which stay.
    appended: u32,
    lock: Option<i64>,
}

impl State {
    fn seen(&self) -> Seen {
        let children = self.appended + u32::from(self.lock.is_some());
        Seen { number: self.number, version: self.version, children }
    }
}

impl Specification for Znode {
    type State = Option<State>;
    type Operation = (Asked, Answered);

    fn init() -> Option<State> {
        None
    }

    fn apply((asked, answered): &Self::Operation, state: &Self::State) -> (bool, Self::State) {
        let (right, next) = happen(asked, state);
        (*answered == Answered::Unknown || *answered == right, next)
    }
}

/// What is answered, and what is there after that.
fn happen(asked: &Asked, state: &Option<State>) -> (Answered, Option<State>) {
    let Some(known) = state else {
        return match asked {
            &Asked::Create(number) => (Answered::Done, Some(State { number, ..State::default() })),
            Asked::Read => (Answered::Found(None), None),
            Asked::End(_) => (Answered::Done, None),
            Asked::Set(..) | Asked::Delete | Asked::Append | Asked::Lock(_) => {
                (Answered::NoNode, None)
            }
        };
    };
    let mut next = known.clone();
    let answered = match asked {
        Asked::Create(_) => Answered::NodeExists,
        Asked::Read => Answered::Found(Some(known.seen())),
        Asked::Set(_, Some(version)) if *version != known.version => Answered::BadVersion,
        Asked::Set(number, _) => {
            (next.number, next.version) = (*number, known.version + 1);
            Answered::Version(next.version)
        }
        Asked::Delete if known.appended > 0 || known.lock.is_some() => Answered::NotEmpty,
        Asked::Delete => return (Answered::Done, None),
        Asked::Append => {
            (next.made, next.appended) = (known.made + 1, known.appended + 1);
            Answered::Number(known.made)
        }
        Asked::Lock(_) if known.lock.is_some() => Answered::NodeExists,
        Asked::Lock(session) => {
            (next.made, next.lock) = (known.made + 1, Some(*session));
            Answered::Done
        }
        Asked::End(session) => {
            next.lock = known.lock.filter(|owner| owner != session);
            Answered::Done
        }
    };
    (answered, Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(number: u32, version: i32, children: u32) -> Answered {
        Answered::Found(Some(Seen { number, version, children }))
    }

    /// Calls that follow on each other, and their answers.
    fn judged(steps: &[(Asked, Answered)]) -> bool {
        let mut judge = Judge::default();
        for (asked, answered) in steps {
            let call = judge.call(asked.clone());
            judge.answer(call, answered.clone());
        }
        judge.is_linearizable()
    }

    #[test]
    fn what_follows_the_rules_is_right_and_nothing_else() {
        use Answered::*;
        use Asked::*;
        let right = [
            (Create(1), Done),
            (Lock(7), Done),
            (Lock(8), NodeExists),
            (Append, Number(1)),
            (Set(2, Some(0)), Version(1)),
            (Set(3, Some(0)), BadVersion),
            (Delete, NotEmpty),
            (End(7), Done),
            (Lock(8), Done),
            (Read, found(2, 1, 2)),
        ];
        assert!(judged(&right));
        for wrong in [
            (Append, Number(2)),
            (Lock(9), Done),
            (Read, found(2, 0, 2)),
            (Read, found(2, 1, 1)),
            (Read, Found(None)),
            (Set(5, None), Version(1)),
        ] {
            assert!(!judged(&[&right[..], std::slice::from_ref(&wrong)].concat()), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_unknown_may_happen_late_or_never() {
        let mut judge = Judge::default();
        let created = judge.call(Asked::Create(1));
        judge.answer(created, Answered::Done);
        let unknown = judge.call(Asked::Set(2, None));
        judge.answer(unknown, Answered::Unknown);
        for (number, version) in [(1, 0), (2, 1)] {
            let read = judge.call(Asked::Read);
            judge.answer(read, found(number, version, 0));
            assert!(judge.is_linearizable());
        }
        // But not be taken back.
        let read = judge.call(Asked::Read);
        judge.answer(read, found(1, 0, 0));
        assert!(!judge.is_linearizable());
    }

    #[test]
    fn what_was_refused_must_not_have_happened() {
        let mut judge = Judge::default();
        let refused = judge.call(Asked::Create(1));
        judge.answer(refused, Answered::Nothing);
        let read = judge.call(Asked::Read);
        judge.answer(read, found(1, 0, 0));
        assert!(!judge.is_linearizable());
    }
}
