//! Conformance suites that every back end passes, and doubles for tests of this and other crates.
