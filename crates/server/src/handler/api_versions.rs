//! ApiVersions: which apis are served, in which versions (KIP-35, KIP-511).

use ottla_protocol::messages::api_versions_response::ApiVersion;
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::{ApiKey, ErrorCode};

use crate::call::{Call, Close};
use crate::dispatch::{SERVED, served_versions};
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>) -> Result<Reply, Close> {
    let request: ApiVersionsRequest<'_> = call.decode()?;
    let software = [&*request.client_software_name, &*request.client_software_version];
    let error_code = if call.version() >= 3 && !software.iter().all(|s| is_software_word(s)) {
        ErrorCode::INVALID_REQUEST
    } else {
        ErrorCode::NONE
    };
    let api_keys = SERVED.iter().filter_map(|&api| advertised(api)).collect();
    call.respond(&ApiVersionsResponse {
        error_code: error_code.0,
        api_keys,
        finalized_features_epoch: 0,
        ..Default::default()
    })
}

/// Answers a version that is not served: in version 0, which every client reads, with the versions
/// of ApiVersions alone, so that the client can ask again.
pub(crate) fn unsupported(call: Call<'_>) -> Result<Reply, Close> {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION.0,
        api_keys: advertised(ApiKey::ApiVersions).into_iter().collect(),
        ..Default::default()
    };
    call.in_version(0).respond(&response)
}

fn advertised(api: ApiKey) -> Option<ApiVersion> {
    let range = served_versions(api)?;
    let min_version = match api {
        // Old librdkafka takes a higher minimum for a broker without compression (KAFKA-18659).
        ApiKey::Produce => 0,
        _ => range.min,
    };
    Some(ApiVersion { api_key: api.into(), min_version, max_version: range.max })
}

/// Kafka's rule for the name and version of a client: letters, digits, `-` and `.`, no `-` or `.` at
/// either end.
fn is_software_word(word: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|&b| inner(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_words_are_kafkas() {
        for good in ["librdkafka", "2.0.2", "apache-kafka-java", "a"] {
            assert!(is_software_word(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a/b", "é"] {
            assert!(!is_software_word(bad), "{bad}");
        }
    }
}
