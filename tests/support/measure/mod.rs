//! What the benchmarks beside peers share (`tests/bench/sftp`, `tests/bench/webdav`): who takes part, what is measured, the
//! peers' programs, their CPU, and the table that is printed.
//!
//! Rounds are interleaved and each side begins in its turn; figures are medians; what was transferred is compared.

pub mod cpu;
pub mod plan;
pub mod programs;
pub mod small;
pub mod table;

pub use plan::{Plan, Row, Side, order};
pub use programs::{Programs, Served, timed, timed_with_cpu};
pub use table::{Figures, Samples, Table, Target};
