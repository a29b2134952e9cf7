//! The network: what its sizes and switches are.

pub mod config;
