//! How large things may be. What a signed channel says is still bounded: a
//! mistake of an operator must not fill a machine's disk or memory.

/// The longest signed channel, in bytes.
pub const MAX_CHANNEL: u64 = 256 << 10;

/// The longest unified kernel image; the ESP has 128 MiB for two and a third
/// that is being written.
pub const MAX_UKI: u64 = 64 << 20;

/// The longest boot loader; the updater holds it in memory.
pub const MAX_LOADER: u64 = 4 << 20;

/// The longest list of contents.
pub const MAX_SBOM: u64 = 64 << 20;

/// The longest disk image.
pub const MAX_DISK: u64 = 64 << 30;

/// Releases on a channel.
pub const MAX_OFFERS: usize = 64;

/// Waves of an offer.
pub const MAX_WAVES: usize = 32;

/// Mirrors of a channel.
pub const MAX_MIRRORS: usize = 16;

/// Bytes of a release's notes.
pub const MAX_NOTES: usize = 8 << 10;

/// Bytes of any other text: names, paths, reasons, addresses.
pub(crate) const MAX_TEXT: usize = 512;
