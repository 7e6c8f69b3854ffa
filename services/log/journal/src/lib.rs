//! The journal's on-disk format, its writer and its reader
