//! The versions that a broker speaks, and the choice among them.

use ottla_protocol::messages::api_versions_response::ApiVersion;
use ottla_protocol::{ApiKey, VersionRange};

/// A broker's answer to ApiVersions. Apis that we do not know are left out.
#[derive(Debug, Default)]
pub(crate) struct Versions(Vec<(ApiKey, VersionRange)>);

impl Versions {
    pub(crate) fn new(apis: &[ApiVersion]) -> Self {
        let known = apis.iter().filter_map(|api| {
            let range = VersionRange { min: api.min_version, max: api.max_version };
            Some((ApiKey::from_i16(api.api_key)?, range))
        });
        Self(known.collect())
    }

    pub(crate) fn of(&self, api: ApiKey) -> Option<VersionRange> {
        self.0.iter().find(|(known, _)| *known == api).map(|(_, range)| *range)
    }

    pub(crate) fn highest_common(&self, api: ApiKey, ours: VersionRange) -> Option<i16> {
        let theirs = self.of(api)?;
        let highest = ours.max.min(theirs.max);
        (highest >= ours.min && highest >= theirs.min).then_some(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_taken() {
        let check = |theirs: (i16, i16), ours: (i16, i16), expected: Option<i16>| {
            let api = ApiVersion {
                api_key: ApiKey::Fetch.into(),
                min_version: theirs.0,
                max_version: theirs.1,
            };
            let ours = VersionRange { min: ours.0, max: ours.1 };
            let common = Versions::new(&[api]).highest_common(ApiKey::Fetch, ours);
            assert_eq!(common, expected, "{theirs:?} and {ours:?}");
        };
        check((0, 11), (0, 17), Some(11));
        check((4, 18), (0, 17), Some(17));
        check((4, 18), (0, 4), Some(4));
        check((4, 18), (0, 3), None);
        check((0, 3), (4, 17), None);
        check((5, 4), (0, 17), None);
        assert_eq!(
            Versions::default().highest_common(ApiKey::Fetch, VersionRange { min: 0, max: 17 }),
            None
        );
    }
}
