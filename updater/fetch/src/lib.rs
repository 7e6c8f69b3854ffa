//! Metadata and blocks of a release, from servers that nobody trusts.
