//! Servers of Apache ZooKeeper that make up an ensemble.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::broker::{End, Node, free_port, poll};
use crate::install::Tools;

/// What sessions ask for, and are granted.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// An ensemble, at work.
pub(crate) struct Ensemble {
    servers: Vec<Node>,
}

impl Ensemble {
    /// Starts servers, which agree on a leader while clients wait.
    pub(crate) fn start(tools: &Tools, servers: usize) -> Outcome<Self> {
        let mut peers = String::new();
        for id in (1..=servers).filter(|_| servers > 1) {
            let (quorum, election) = (free_port()?, free_port()?);
            peers += &format!("server.{id}=127.0.0.1:{quorum}:{election}\n");
        }
        let server = |id| Node::of(|address, home| command(tools, address, home, id, &peers));
        let mut servers: Vec<Node> = (1..=servers).map(server).collect::<Outcome<_>>()?;
        servers.iter_mut().try_for_each(Node::start)?;
        Ok(Self { servers })
    }

    /// Starts one server that takes encrypted connections too, with the key store and trust store at
    /// these places, and wants a certificate. Also gives the address of those. By itself it would take
    /// TLSv1.3 alone, and Kafka's default is TLSv1.2.
    pub(crate) fn encrypted(
        tools: &Tools,
        stores: [&Path; 2],
        password: &str,
    ) -> Outcome<(Self, String)> {
        let port = free_port()?;
        let mut more = format!(
            "secureClientPort={port}
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider
ssl.enabledProtocols=TLSv1.2,TLSv1.3
"
        );
        for (name, path) in ["keyStore", "trustStore"].into_iter().zip(stores) {
            more += &format!("ssl.{name}.location={}\n", path.display());
            more += &format!("ssl.{name}.password={password}\n");
        }
        let mut server = Node::of(|address, home| command(tools, address, home, 1, &more))?;
        server.start()?;
        Ok((Self { servers: vec![server] }, format!("127.0.0.1:{port}")))
    }

    /// `zookeeper.connect`, without a chroot.
    pub(crate) fn connect_string(&self) -> String {
        let servers: Vec<&str> = self.servers.iter().map(|server| &*server.bootstrap).collect();
        servers.join(",")
    }

    /// Which server a session is at; `None` if it is at none.
    pub(crate) fn server_of(&self, session: i64) -> Option<usize> {
        let word = format!("sid=0x{session:x},");
        let is_there =
            |server: &Node| ask(&server.bootstrap, "cons").is_ok_and(|text| text.contains(&word));
        self.servers.iter().position(is_there)
    }

    /// Ends the server that leads with SIGKILL, and tells which one it was.
    pub(crate) fn kill_leader(&mut self) -> Outcome<usize> {
        let leads = |server: &Node| {
            ask(&server.bootstrap, "srvr").is_ok_and(|text| text.contains("Mode: leader"))
        };
        let leader = poll("a server that leads", || Ok(self.servers.iter().position(leads)))?;
        self.kill(leader)?;
        Ok(leader)
    }

    /// Ends a server with SIGKILL.
    pub(crate) fn kill(&mut self, server: usize) -> Outcome<()> {
        self.servers[server].stop(End::Killed)
    }

    pub(crate) fn restart(&mut self, server: usize) -> Outcome<()> {
        self.servers[server].start()
    }
}

/// What a server answers to a four-letter word.
fn ask(address: &str, word: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn command(tools: &Tools, address: &str, home: &Path, id: usize, more: &str) -> Outcome<Command> {
    let (host, port) = address.split_once(':').ok_or("not host:port")?;
    let (data, config) = (home.join("data"), home.join("zoo.cfg"));
    fs::create_dir_all(&data)?;
    fs::write(data.join("myid"), id.to_string())?;
    let text = format!(
        "tickTime=500\ninitLimit=20\nsyncLimit=10\nminSessionTimeout=1000\n\
         dataDir={}\nclientPort={port}\nclientPortAddress={host}\nmaxClientCnxns=0\n\
         admin.enableServer=false\n4lw.commands.whitelist=*\n{more}",
        data.display()
    );
    fs::write(&config, text)?;
    let mut command = tools.zookeeper();
    command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(config);
    Ok(command)
}
