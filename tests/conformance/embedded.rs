//! The suite on the embedded world, in memory and on a file.
