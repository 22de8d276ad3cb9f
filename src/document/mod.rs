//! Identity documents: what stands on them, in text and in codes.
//!
//! Called by `pipeline` with decoded pictures, and by the command line with lines of text. [`ocr`] finds and reads lines,
//! [`mrz_reader`] those of a machine-readable zone, which [`mrz`] turns into fields and back and [`mrz_fusion`] brings together from
//! several pictures; [`text_reader`] those that are printed for
//! people, whose facts [`visual`] finds; [`page_locator`] sees in a small picture where the page and the lines of its zone are, [`locate`] tells the
//! page's outline in the whole one; [`barcode`] finds symbols and [`aamva`]
//! understands those of North American licences, which [`content`] brings together; [`fields`] brings all sources into one form, and [`agreement`] compares them. Nothing here reads a clock: the day of
//! the check is a parameter.

pub mod aamva;
pub mod agreement;
pub mod barcode;
pub mod capture;
pub mod content;
pub mod fields;
pub mod locate;
pub mod mrz;
pub mod mrz_fusion;
pub mod mrz_reader;
pub mod ocr;
pub mod page_locator;
pub mod text_reader;
pub mod upright_page;
pub mod visual;
