//! The door: the only place that knows fuser.

pub mod os;
pub mod park;
pub mod work;
