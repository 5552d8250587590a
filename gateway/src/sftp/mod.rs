//! SFTP version 3 over one SSH channel: `wire` takes requests apart, `reply` puts answers together, `dispatch` turns requests into operations of the one
//! door, which `on_handle` and `on_path` run, `order` says when answers leave, `channel` moves the bytes.

pub mod attributes;
pub mod channel;
pub mod check_file;
pub mod dispatch;
pub mod handles;
mod on_handle;
mod on_path;
pub mod order;
pub mod reply;
pub mod status;
pub mod wire;
