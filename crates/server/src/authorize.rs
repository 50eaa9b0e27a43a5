//! Who may do what.
//!
//! Every handler asks here before it acts. There are no rules yet, so everyone may do everything;
//! the question stands where the answer will matter.

use std::fmt;

/// Who a connection speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal(&'static str);

impl Principal {
    /// Whoever connects without proving who he is.
    pub(crate) const ANONYMOUS: Self = Self("User:ANONYMOUS");
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What stands for the allowed operations where nobody asked for them.
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// What is to be done, in the words and with the codes of Kafka's ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    Cluster,
}

/// Decides.
#[derive(Debug, Default)]
pub(crate) struct Authorizer;

impl Authorizer {
    /// Whether `principal` may do `operation` to `resource`.
    pub(crate) fn authorize(
        &self,
        _principal: &Principal,
        _operation: Operation,
        _resource: Resource<'_>,
    ) -> bool {
        true
    }

    /// The operations on `resource` that `principal` may do, as a set of bits (KIP-430).
    pub(crate) fn operations(&self, principal: &Principal, resource: Resource<'_>) -> i32 {
        let all: &[Operation] = match resource {
            Resource::Topic(_) => &[
                Operation::Read,
                Operation::Write,
                Operation::Create,
                Operation::Delete,
                Operation::Alter,
                Operation::Describe,
                Operation::DescribeConfigs,
                Operation::AlterConfigs,
            ],
            Resource::Group(_) => &[Operation::Read, Operation::Delete, Operation::Describe],
            Resource::Cluster => &[
                Operation::Create,
                Operation::Alter,
                Operation::Describe,
                Operation::ClusterAction,
                Operation::DescribeConfigs,
                Operation::AlterConfigs,
                Operation::IdempotentWrite,
            ],
        };
        let allowed = all.iter().filter(|&&op| self.authorize(principal, op, resource));
        allowed.fold(0, |bits, &operation| bits | 1 << operation as i32)
    }
}
