//! What real programs do all day.

pub(crate) mod json;
pub(crate) mod maps;
pub(crate) mod rust;
pub(crate) mod strings;
