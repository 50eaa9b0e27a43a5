//! The file in which a node keeps its session's id and password, so that its next start can end a
//! session that a crash left behind: its ephemeral nodes would stand in the way of new ones.
//!
//! Two lines, `session=<hex>` and `password=<hex>`, for the owner's eyes alone. A file that is
//! damaged is as good as none: the session ends by itself, after its timeout.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_keeper::Password;
use ottla_runtime::Disk;
use ottla_runtime::disk::{read_file, replace_private_file};

use crate::tree::{SessionId, TreeError};

/// Where a session is kept.
#[derive(Clone)]
pub struct SessionFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl fmt::Debug for SessionFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionFile").field(&self.path).finish()
    }
}

impl SessionFile {
    /// The file at `path`, which need not be there.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path }
    }

    /// The session that was kept last; `None` if there is none.
    pub(crate) fn read(&self) -> Result<Option<(SessionId, Password)>, TreeError> {
        if !self.disk.exists(&self.path) {
            return Ok(None);
        }
        let bytes = read_file(&*self.disk, &self.path).map_err(|error| self.error(&error))?;
        Ok(parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Keeps a session in the place of any other. It blocks for one flush, once in a session.
    pub(crate) fn write(&self, session: SessionId, password: &Password) -> Result<(), TreeError> {
        let password: String = password.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("session={:x}\npassword={password}\n", session.0);
        let written = replace_private_file(&*self.disk, &self.path, text.as_bytes());
        written.map_err(|error| self.error(&error))
    }

    /// Forgets the session, which is over.
    pub(crate) fn remove(&self) -> Result<(), TreeError> {
        if !self.disk.exists(&self.path) {
            return Ok(());
        }
        self.disk.remove_file(&self.path).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &io::Error) -> TreeError {
        let reason = format!("the file of the session, {}: {error}", self.path.display());
        TreeError::Unavailable { reason: reason.into() }
    }
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
