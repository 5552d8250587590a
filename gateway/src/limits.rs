//! Every bound of the gateway: its name, its unit, its reason.

// ---- accounts and admin ----

// ---- vfs ----

// ---- ssh and sftp ----

// ---- webdav ----
