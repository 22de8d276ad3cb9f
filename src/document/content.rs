//! What the payload of a barcode says.
//!
//! Called by `pipeline` with every symbol that was found. Only the text of North American licences is understood so far; other
//! payloads are handed on as they are.

use super::aamva::{self, AamvaError, Record};
use super::barcode::Barcode;

/// A symbol and what it says.
#[derive(Debug, Clone)]
pub struct ReadBarcode {
    pub symbol: Barcode,
    /// The licence that it describes, if it does.
    pub licence: Option<Record>,
}

impl ReadBarcode {
    /// A symbol with its content. `None` for a symbol that only one attempt found and that holds no licence: the decoder now and then gives
    /// a payload that is none.
    pub fn of(symbol: Barcode) -> Option<Self> {
        match aamva::parse(&symbol.bytes) {
            Ok(licence) => Some(Self { symbol, licence: Some(licence) }),
            Err(AamvaError::NoHeader | AamvaError::NoElements | AamvaError::TooLong) => {
                symbol.agreed.then_some(Self { symbol, licence: None })
            }
        }
    }
}
