//! The disk that the system boots from: slots, boot entries, boot loader.
