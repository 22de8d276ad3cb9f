//! Any bytes as a PDF file: counted and drawn within the limits, or an error that has a code.
//!
//! Run by the fuzz target `pdf` and, on the committed corpus, by `tests/fuzz_corpus.rs`. Panics of the renderer are caught on its own thread by the product and come
//! back as errors, so they are none here either; errors in memory, time and memory beyond the bounds are what is looked for.

use std::sync::Once;

use vouch::imaging::pdf::{PdfError, PdfOptions, is_pdf, page_count, render};

const OPTIONS: PdfOptions = PdfOptions {
    max_bytes: 1 << 20,
    max_pages: 4,
    max_pixels: 120_000,
    max_side_px: 2_000,
    min_dpi: 50.0,
    max_dpi: 100.0,
};

/// A stream may expand to 64 MiB and is held by the counting as well as by the renderer.
pub const MAX_BYTES: usize = 256 << 20;

pub fn check(bytes: &[u8]) {
    let_the_renderer_panic();
    is_pdf(bytes);
    let never = || false;
    let count = page_count(bytes, &OPTIONS, &never);
    for page in [0, 1] {
        match (render(bytes, page, &OPTIONS, &never), &count) {
            (Ok(drawn), Ok(count)) => {
                let image = &drawn.image;
                assert!(page < *count);
                assert_eq!(image.rgb.len(), image.width as usize * image.height as usize * 3);
                assert!(u64::from(image.width) * u64::from(image.height) <= OPTIONS.max_pixels);
                assert!((1..=OPTIONS.max_side_px).contains(&image.width.max(image.height)));
                assert!(drawn.dpi > 0.0 && drawn.dpi <= OPTIONS.max_dpi * 1.001, "{} dpi", drawn.dpi);
            }
            (Ok(_), Err(error)) => panic!("a page of a file whose pages could not be counted: {error}"),
            (Err(error), count) => {
                assert!(error.code().starts_with("PDF_") || error == too_large(error), "{}", error.code());
                assert_ne!(error, PdfError::DeadlineExceeded);
                assert!(error.to_string().len() < 200);
                if let Err(counted) = count {
                    assert_eq!(error, *counted);
                }
            }
        }
    }
    if count.is_ok() {
        assert_eq!(page_count(bytes, &OPTIONS, &|| true), Err(PdfError::DeadlineExceeded));
    }
    if let Ok(count) = count {
        assert!((1..=OPTIONS.max_pages).contains(&count));
        assert_eq!(render(bytes, count, &OPTIONS, &never).expect_err("there is no such page"), PdfError::Empty);
    }
}

/// The error itself if it is one of a limit, which has a picture's code.
fn too_large(error: PdfError) -> PdfError {
    match error {
        PdfError::TooLarge { .. } => error,
        _ => PdfError::DeadlineExceeded,
    }
}

/// The hook of a fuzz target ends the process at each panic, caught or not.
fn let_the_renderer_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some("pdf") {
                others(panic);
            }
        }));
    });
}
