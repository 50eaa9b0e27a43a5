//! What is read of an X.509 certificate beside what the TLS library reads of it.

use crate::der::{Der, Malformed, tag};

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// Whom a certificate is about.
pub(crate) struct Names<'a> {
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    has_alternatives: bool,
}

impl<'a> Names<'a> {
    pub(crate) fn of(certificate: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Der::new(certificate).sequence()?.sequence()?;
        let _version = fields.optional(tag::CONTEXT_0_OF)?;
        let _serial = fields.whole()?;
        let _algorithm = fields.whole()?;
        let (issuer, _) = fields.whole()?;
        let _validity = fields.whole()?;
        let (subject, _) = fields.whole()?;
        let mut has_alternatives = false;
        while !fields.is_empty() {
            // Of what follows, the extensions alone have this tag.
            let Some(extensions) = fields.optional(tag::CONTEXT_3_OF)? else {
                fields.whole()?;
                continue;
            };
            let mut extensions = Der::new(extensions).sequence()?;
            while !extensions.is_empty() {
                has_alternatives |= extensions.sequence()?.take(tag::OID)? == ALTERNATIVE_NAMES;
            }
        }
        Ok(Self { issuer, subject, has_alternatives })
    }
}

/// The common name of a certificate that has no alternative names: so it named its host before those
/// were known, and Java still takes it for one.
#[must_use]
pub fn common_name_for_host(certificate: &[u8]) -> Option<String> {
    let names = Names::of(certificate).ok()?;
    if names.has_alternatives {
        return None;
    }
    common_name(names.subject).ok().flatten()
}

/// The last one is the most specific.
fn common_name(subject: &[u8]) -> Result<Option<String>, Malformed> {
    let mut found = None;
    let mut parts = Der::new(subject).sequence()?;
    while !parts.is_empty() {
        let mut set = parts.inside(tag::SET)?;
        while !set.is_empty() {
            let mut attribute = set.sequence()?;
            if attribute.take(tag::OID)? == COMMON_NAME {
                let (_, text) = attribute.whole()?;
                found = std::str::from_utf8(text).ok().map(str::to_owned);
            }
        }
    }
    Ok(found)
}
