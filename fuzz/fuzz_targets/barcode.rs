//! Feeds small grey pictures to the barcode reader: two bytes of size, then pixels.
#![no_main]

use vouch::document::barcode::{Luma, Request, Symbology, read};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [width, height, pixels @ ..] = bytes else { return };
    let (width, height) = (u32::from(*width) + 1, u32::from(*height) + 1);
    let mut pixels = pixels.to_vec();
    pixels.resize((width * height) as usize, 128);
    if let Some(picture) = Luma::new(width, height, pixels) {
        let request = Request { wanted: Symbology::ALL.to_vec(), ..Request::default() };
        assert!(read(&picture, &request, &|| false).is_ok());
    }
});
