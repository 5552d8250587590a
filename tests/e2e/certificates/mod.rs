//! Certificates: the gateway's own from an ACME directory.

mod acme;
mod pebble;
