//! FAT32 changed in an order that survives a power cut.
