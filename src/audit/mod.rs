//! The audit log: one record for each verification, in a chain that shows every later edit.
//!
//! `api` puts a [`record::Draft`] together while a request is answered and hands it to [`AuditLog`]; one thread ([`writer`]) seals records into a chain ([`chain`]) and
//! keeps their files ([`store`]). `vouch audit` reads them back ([`verify`]). Records hold no picture and no personal field, only salted digests ([`salt`]).
//! docs/audit.md has the format and what it defends against.
//!
//! Left out: sending records elsewhere; the files are JSON Lines that every collector reads.

pub mod chain;
pub mod record;
pub mod salt;
pub mod store;
pub mod verify;
pub mod writer;

pub use writer::{AuditLog, NotWritten, OpenError};
