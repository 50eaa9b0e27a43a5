//! What an api answers when it did not do what it was asked: Kafka's code, and what to do.

use std::borrow::Cow;

use ottla_protocol::ErrorCode;

use crate::cluster::ChangeError;

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) code: ErrorCode,
    pub(crate) message: Cow<'static, str>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let code = match &error {
            ChangeError::InvalidName(_) | ChangeError::Collides { .. } => {
                ErrorCode::INVALID_TOPIC_EXCEPTION
            }
            ChangeError::Exists { .. } => ErrorCode::TOPIC_ALREADY_EXISTS,
            ChangeError::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ChangeError::TooFewBrokers(_) => ErrorCode::INVALID_REPLICATION_FACTOR,
            ChangeError::InvalidAssignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            ChangeError::NotMore { .. } => ErrorCode::INVALID_PARTITIONS,
            ChangeError::NotController | ChangeError::Admin(_) => ErrorCode::NOT_CONTROLLER,
            ChangeError::Io(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        };
        Self::new(code, error.to_string())
    }
}
