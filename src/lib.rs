//! vouch: identity verification on the customer's own host.
//!
//! Reading order, along the way of one verification (`ARCHITECTURE.md` tells the reasons):
//!
//! 1. [`api`]: the Unix socket, gRPC and the conversion between messages and our types. Nothing else knows the proto.
//! 2. [`pipeline`]: admission, then plans and runs one verification and emits its events.
//! 3. [`imaging`]: bytes to pixels: decode, orient, resize, warp, quality. [`decoders`] is where the bytes are read: in confined processes.
//! 4. [`face`]: detect, align, embed, liveness and age scores, landmarks.
//! 5. [`document`]: identity documents: lines of text, machine-readable zone, barcodes, fields.
//! 6. [`checks`]: from evidence and calibration to outcomes; one file per check.
//! 7. [`inference`]: queue, batches and ONNX Runtime sessions behind one small trait.
//! 8. [`calibration`]: score to error rates, operating points.
//! 9. [`evaluation`]: labelled data and the daemon's answers to rates, reports and calibration files.
//!
//! Beside that way: [`audit`] (a record of each verification, in a chain), [`models`] (manifest, pull, verify, bundle), [`config`], [`ops`] (systemd, logging),
//! [`specimen`] (synthetic documents to try and train with), [`cli`] (what the `vouch` binary does).

pub mod api;
pub mod audit;
pub mod calibration;
pub mod checks;
pub mod cli;
pub mod config;
pub mod decoders;
pub mod document;
pub mod error;
pub mod evaluation;
pub mod face;
pub mod imaging;
pub mod inference;
pub mod live;
pub mod models;
pub mod ops;
pub mod pipeline;
pub mod specimen;
