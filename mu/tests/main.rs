//! All tests of the messenger through its public face, as one program: they share a world.

mod checklist;
mod conformance;
mod crank;
mod crash;
mod world;
