//! `zookeeper.connect`: who the servers of the ensemble are, and below which node we live.

use std::fmt;
use std::str::FromStr;

use ottla_keeper::machine::is_valid_path;

/// The port of a server that names none.
const PORT: u16 = 2181;

/// What `zookeeper.connect` says: `host:port,host:port/chroot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectString {
    /// The servers' hosts and ports.
    pub servers: Vec<(String, u16)>,
    /// The node that stands for `/`; empty if that is the root itself.
    pub chroot: String,
}

impl fmt::Display for ConnectString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (host, port)) in self.servers.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{host}:{port}")?;
        }
        f.write_str(&self.chroot)
    }
}

/// It is not a list of servers with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError(String);

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: write it as host:port,host:port or host:port,host:port/path", self.0)
    }
}

impl std::error::Error for ConnectError {}

impl FromStr for ConnectString {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let (servers, chroot) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let chroot = if chroot == "/" { "" } else { chroot };
        if !chroot.is_empty() && !is_valid_path(chroot) {
            return Err(ConnectError(format!("`{chroot}` is no path")));
        }
        let servers = servers.split(',').map(|server| server_of(server.trim()));
        Ok(Self { servers: servers.collect::<Result<_, _>>()?, chroot: chroot.to_owned() })
    }
}

fn server_of(text: &str) -> Result<(String, u16), ConnectError> {
    // An address of IPv6 has colons of its own, and stands in brackets.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|&port| port > 0));
    match port {
        Some(port) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(ConnectError(format!("`{text}` is no server"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Vec<(String, u16)>, String)> {
        text.parse().ok().map(|ConnectString { servers, chroot }| (servers, chroot))
    }

    #[test]
    fn servers_and_a_chroot() {
        let server = |host: &str, port| (host.to_owned(), port);
        assert_eq!(read("a:1"), Some((vec![server("a", 1)], String::new())));
        let two = vec![server("a", 2181), server("[::1]", 3)];
        assert_eq!(read("a, [::1]:3/kafka/x"), Some((two, "/kafka/x".to_owned())));
        let shown = "a, [::1]:3/kafka/x".parse::<ConnectString>().unwrap().to_string();
        assert_eq!(shown, "a:2181,[::1]:3/kafka/x");
        assert_eq!(read("[::1]/"), Some((vec![server("[::1]", 2181)], String::new())));
        for wrong in ["", "a:", "a:0", ":1", "a:1,", "a:70000", "a:1/k/", "a:1//k"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
