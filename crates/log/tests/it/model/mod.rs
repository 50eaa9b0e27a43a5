//! Random operations on the logs of a broker, a crash at every call of the disk, and what a model
//! says must be found afterwards.
//!
//! `operation` does things to a broker and notes them in the model; `state` is the model, and the
//! comparison with what is found; `crash_points` runs seeds and shortens what fails.

mod crash_points;
mod flips;
mod operation;
mod state;
