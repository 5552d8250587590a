//! Frames: sealed chunks (FORMAT.md section "Frame").
