//! Which blocks a release has, in eight bytes each.
