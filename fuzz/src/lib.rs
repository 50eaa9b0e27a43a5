//! What the fuzz targets do with their input, one module per crate under test. The tests of that
//! crate include the module too and run it over the kept corpus, without libFuzzer.

pub mod log;
pub mod protocol;
