//! WebDAV locks and conditions as clients use them: they hold against others, survive a crash, end when they should, and no
//! race lets a change slip past one.

mod conditions;
mod dav;
mod holding;
mod programs;
mod races;
