//! The gRPC service on the Unix socket: one file per RPC, the listener, and the conversion between messages and our own types.
//! The only place that knows tonic and the proto.
//!
//! A call goes through [`listener`] (connection, peer identity), [`callers`] (policy and quotas of its user), the access check, the RPC's file, and `pipeline`.

mod audit;
pub mod callers;
mod check_passive_liveness;
pub mod codec;
mod convert;
mod detect_faces;
mod estimate_age;
mod get_status;
pub mod listener;
mod match_faces;
pub mod metrics;
mod newest;
pub mod read_document;
pub mod reload;
mod request;
mod scan_mrz;
pub mod server;
pub mod service;
pub mod status;
mod unwind;
mod verify;
mod verify_live;

/// The generated messages and services of `proto/vouch/v1/vouch.proto`.
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("vouch.v1");

    /// The compiled descriptors, for the reflection service.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vouch.v1.bin"));
}
