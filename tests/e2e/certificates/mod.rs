//! Certificates: the gateway's own from an ACME directory, and those of users.

mod acme;
mod cards;
mod pebble;
mod ssh;
mod tls;
