//! `weft bench`: each file measures one thing and prints rates and ratios.

pub mod checkpoint;
pub mod cu;
pub mod density;
pub mod fork;
pub mod su;
pub mod test;
pub mod verify;
