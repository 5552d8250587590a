//! sshfs: a mounted vault is a disk.

mod exerciser;
mod git;
mod posix;
mod programs;
mod shared;
mod sqlite;
