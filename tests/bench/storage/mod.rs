//! What is measured of the engine.

pub(crate) mod again;
pub(crate) mod bed;
pub(crate) mod history;
pub(crate) mod many;
pub(crate) mod random;
pub(crate) mod small;
pub(crate) mod stream;
