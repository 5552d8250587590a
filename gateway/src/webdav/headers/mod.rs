//! Request headers, read or refused. Pure: bytes in, meaning out.

mod conditions;
mod fields;
mod range;
mod uri;

pub use conditions::{Condition, IfList, StateToken, Tags, if_lists, if_match, if_none_match, lock_token};
pub use fields::{Depth, basic, date, depth, overwrite, parse_date, text, timeout};
pub use range::{Range, range};
pub use uri::{destination, local_path, path};
