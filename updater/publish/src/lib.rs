//! Publishes releases: keys, metadata, channels.
