//! A gateway of its own for each test: started from the built binary on free loopback ports in a temporary
//! directory, stopped when dropped. Plus the programs people use, run with a time limit, and trees of real files.

pub mod accounts;
pub mod exerciser;
pub mod files;
pub mod fixture;
pub mod gateway;
pub mod measure;
pub mod moments;
pub mod mount;
pub mod process;
pub mod raw_http;
pub mod raw_http_2;
pub mod raw_sftp;
pub mod web_trace;

pub use files::{Listing, Names, listing, sample_tree};
pub use fixture::Fixture;
pub use gateway::Gateway;
pub use mount::Mount;
pub use process::{Finished, run, run_ok, until, wait};
pub use raw_http::RawHttp;
pub use raw_http_2::RawHttp2;
pub use raw_sftp::RawSftp;
pub use web_trace::{WebAnswer, WebTrace};
