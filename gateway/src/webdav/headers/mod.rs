//! Request headers, read or refused. Pure: bytes in, meaning out.

mod checksum;
mod conditions;
mod fields;
mod range;
mod uri;

pub use checksum::{checksums, shown_checksum, shown_checksums};
pub use conditions::{Condition, IfList, StateToken, Tags, if_lists, if_match, if_none_match, lock_token};
pub use fields::{Depth, basic, date, depth, overwrite, parse_date, text, timeout};
pub use range::{Range, UpdateRange, content_range, range, update_range};
pub use uri::{destination, local_path, path};
