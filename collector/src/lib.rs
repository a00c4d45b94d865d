//! The roomtone collector.
