//! The gateway: protocols in front of the one door, and the command line around it.
//!
//! Directions: `sftp, webdav, admin -> vfs -> {auth, storage}`; `ssh` carries `sftp`; `wiring` names concrete parts.

pub mod accounts;
pub mod admin;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disaster;
pub mod escrow;
pub mod exec;
pub mod export;
pub mod limits;
pub mod line;
pub mod maintenance;
pub mod outbound;
pub mod reload;
pub mod scrub;
pub mod secrecy;
pub mod serve;
pub mod session;
pub mod setup;
pub mod sftp;
pub mod ssh;
pub mod telemetry;
pub mod tls;
pub mod units;
pub mod vfs;
pub mod webdav;
pub mod wiring;
pub mod witness;
