//! SFTP version 3 over one SSH channel: `wire` takes bytes apart, `dispatch` turns requests into operations of the one
//! door, `channel` moves the bytes.

pub mod attributes;
pub mod channel;
pub mod check_file;
pub mod dispatch;
pub mod handles;
pub mod status;
pub mod wire;
