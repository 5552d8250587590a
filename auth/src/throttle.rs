//! Growing delays for failed logins.
