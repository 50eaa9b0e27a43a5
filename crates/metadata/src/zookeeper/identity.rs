//! The file in which a node keeps its session's id and password, so that its next start can end a
//! session that a crash left behind: its ephemeral nodes would stand in the way of new ones.
//!
//! Two lines, `session=<hex>` and `password=<hex>`, for the owner's eyes alone. A file that is
//! damaged is as good as none: the session ends by itself, after its timeout.

use std::io;
use std::path::Path;

use ottla_keeper::Password;
use ottla_runtime::Disk;
use ottla_runtime::disk::{read_file, replace_private_file};

use crate::tree::SessionId;

/// The session that was kept last; `None` if there is none.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<(SessionId, Password)>> {
    if !disk.exists(path) {
        return Ok(None);
    }
    Ok(parse(&String::from_utf8_lossy(&read_file(disk, path)?)))
}

/// Keeps a session in the place of any other.
pub(super) fn write(
    disk: &dyn Disk,
    path: &Path,
    session: SessionId,
    password: &Password,
) -> io::Result<()> {
    let password: String = password.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("session={:x}\npassword={password}\n", session.0);
    replace_private_file(disk, path, text.as_bytes())
}

/// Forgets the session, which is over.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if disk.exists(path) { disk.remove_file(path) } else { Ok(()) }
}

fn parse(text: &str) -> Option<(SessionId, Password)> {
    let mut lines = text.lines();
    let session = lines.next()?.strip_prefix("session=")?;
    let session = SessionId(u64::from_str_radix(session, 16).ok()?.cast_signed());
    let hex = lines.next()?.strip_prefix("password=")?;
    let mut password = Password::default();
    if hex.len() != 2 * password.0.len() || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in password.0.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some((session, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let password = "000102030405060708090a0b0c0d0e0f";
        let text = format!("session=8000000000000001\npassword={password}\n");
        let (session, Password(bytes)) = parse(&text).unwrap();
        assert_eq!(session, SessionId(i64::MIN + 1));
        assert_eq!(bytes.to_vec(), (0..16).collect::<Vec<u8>>());
        for damaged in ["", "session=1\n", "session=x\npassword=00\n", &text[..40], &text[1..]] {
            assert!(parse(damaged).is_none(), "{damaged:?}");
        }
    }
}
