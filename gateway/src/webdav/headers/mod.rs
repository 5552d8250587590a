//! Request headers, read or refused. Pure: bytes in, meaning out.

mod checksum;
mod conditions;
mod fields;
mod language;
mod range;
mod uri;

pub use checksum::{checksums, shown_checksum, shown_checksums};
pub use conditions::{Condition, IfList, StateToken, Tags, if_lists, if_match, if_none_match, lock_token};
pub use fields::{
    Depth, basic, date, depth, is_windows, overwrite, parse_date, push_date, push_rfc3339, text, timeout,
};
pub use language::{Language, language};
pub use range::{Range, UpdateRange, content_range, range, update_range};
pub use uri::{destination, local_path, path};
