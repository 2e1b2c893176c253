//! What the store promises, tried on real files.

mod epochs;
mod faults;
mod keeping;
mod publishing;
