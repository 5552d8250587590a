//! What proves who someone is.
