//! webdav.
