//! The update machine: which step comes next, whatever was cut off before. Pure.
