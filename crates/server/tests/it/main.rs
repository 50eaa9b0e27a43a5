//! A node in this process, asked over real sockets.

mod adoption;
mod broker;
mod client;
mod committed;
mod fetch;
mod hostile;
mod log_dirs;
mod peer;
mod power;
mod produce;
mod restart;
mod session;
mod versions;
