//! The login by SASL on a connection, before anything else is asked on it.

use std::borrow::Cow;

use ottla_keeper::machine::Corrupt;
use ottla_keeper::wire::jute::Reader;
use ottla_keeper::wire::number::code;
use ottla_runtime::Random;

use super::link::{Link, LinkError};
use super::packet;
use super::sasl::{SaslError, SaslLogin, respond};

/// Of both requests: the session has none under way, and its numbers are positive.
const XID: i32 = 0;

/// Shows the server to be `login`, and sees that it knows the password.
pub(super) async fn log_in(
    link: &mut Link,
    login: &SaslLogin,
    random: &dyn Random,
) -> Result<(), LinkError> {
    // ZooKeeper's mechanism has no first word of the client.
    let challenge = match exchange(link, &[]).await? {
        (code::OK, Some(challenge)) => challenge,
        (code::OK | code::UNIMPLEMENTED, _) => {
            return Err(failed(
                "it has no login by SASL: its JAAS file needs a section Server with \
                 org.apache.zookeeper.server.auth.DigestLoginModule, or \
                 zookeeper.sasl.jaas.config is to be left out",
            ));
        }
        (_, _) => {
            return Err(failed(
                "it has no login by SASL's DIGEST-MD5: section Server of its JAAS file needs \
                 org.apache.zookeeper.server.auth.DigestLoginModule",
            ));
        }
    };
    let (response, proof) = respond(login, random.bytes16(), &challenge).map_err(not_digest)?;
    match exchange(link, &response).await? {
        (code::OK, token) => proof.verify(&token.unwrap_or_default()).map_err(|error| match error {
            SaslError::NotProved => failed(format!(
                "it does not show that it knows the password of `{}`, and is not believed: set one \
                 that it has in section Server of its JAAS file (zookeeper.sasl.jaas.config)",
                login.username
            )),
            error => not_digest(error),
        }),
        (_, _) => Err(failed(format!(
            "it refuses the login by SASL of `{}`: section Server of its JAAS file has no such user, \
             or another password (zookeeper.sasl.jaas.config)",
            login.username
        ))),
    }
}

/// Sends a token, and gives the code and the token of the answer.
async fn exchange(link: &mut Link, token: &[u8]) -> Result<(i32, Option<Vec<u8>>), LinkError> {
    link.put(|out| packet::sasl(out, XID, token));
    let answer = link.receive().await?;
    let body = answer.body.filter(|_| answer.xid == XID);
    let body = body.ok_or(Corrupt { what: "packet" })?;
    let token = match answer.code {
        code::OK => Reader::new(&body).buffer()?.map(<[u8]>::to_vec),
        _ => None,
    };
    Ok((answer.code, token))
}

fn not_digest(error: SaslError) -> LinkError {
    failed(format!("what it sends is not SASL's DIGEST-MD5 (RFC 2831): {error}"))
}

fn failed(reason: impl Into<Cow<'static, str>>) -> LinkError {
    LinkError::AuthFailed(reason.into())
}
