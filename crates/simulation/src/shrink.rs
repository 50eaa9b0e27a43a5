//! Leaving out what does not matter.

use crate::plan::Plan;
use crate::run::run;

/// A plan with as few faults as it takes to see what is wrong with `plan`: none of them can be left out.
/// The plan itself if nothing is wrong.
#[must_use]
pub fn shrink(plan: &Plan) -> Plan {
    let found = run(plan, false).violations;
    let Some(first) = found.first() else { return plan.clone() };
    let shows = |plan: &Plan| {
        run(plan, false).violations.iter().any(|violation| violation.invariant == first.invariant)
    };
    let mut least = plan.clone();
    // Halves first, then smaller and smaller parts.
    let mut part = least.faults.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        while at < least.faults.len() {
            let fewer = least.without(at..at + part);
            if shows(&fewer) {
                least = fewer;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    least
}
