//! Random operations on the logs of a broker, a crash at every call of the disk, and what a model
//! says must be found afterwards.
//!
//! `operation` draws what is done, `broker` does it and notes it in the model; `state` is the model,
//! and the comparison with what is found; `crash_points` runs seeds and shortens what fails.

mod broker;
mod crash_points;
mod flips;
mod operation;
mod state;
