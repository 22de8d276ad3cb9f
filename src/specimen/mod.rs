//! Synthetic identity documents of States that do not exist, and what a camera makes of them.
//!
//! Called by `vouch specimen`, by tests and benchmarks, and by the training of models. Everything depends on a seed alone: the same seed
//! gives the same bytes on every host of one architecture. Nothing here looks like the document of an existing State.
//!
//! Reading order: [`document`] (draws a page), [`photograph`] (takes a picture of it), [`truth`] (what is on it and where), [`person`], [`zone`]
//! (prints an MRZ), [`camera`], [`strips`] (lines of zones as a reader cuts them out), and what they draw with: [`canvas`], [`font`],
//! [`texture`], [`random`].

pub mod camera;
pub mod canvas;
pub mod document;
pub mod font;
pub mod person;
pub mod photograph;
pub mod random;
pub mod strips;
pub mod texture;
pub mod truth;
pub mod zone;
