//! Tests of the reader on symbols drawn by the decoder's own writer. Distortions are measured by the example `barcode_distort`.

use super::*;
use proptest::prelude::*;
use std::cell::Cell;

/// A symbol drawn with `scale` pixels to a module, on white.
fn draw(symbology: Symbology, text: &str, scale: i32) -> Luma {
    let code = zxingcpp::create(symbology.format()).from_slice(text.as_bytes()).unwrap();
    let image = code.to_image_with(&zxingcpp::write().scale(scale).add_quiet_zones(true)).unwrap();
    Luma::new(image.width() as u32, image.height() as u32, image.data()).unwrap()
}

/// A picture laid on a larger grey one and turned around the middle, with the place of each of its corners.
fn lay(symbol: &Luma, side: u32, angle_deg: f64) -> (Luma, impl Fn([f64; 2]) -> [f64; 2]) {
    let (sin, cos) = angle_deg.to_radians().sin_cos();
    let middle = f64::from(side) / 2.0;
    let half = [f64::from(symbol.width()) / 2.0, f64::from(symbol.height()) / 2.0];
    let picture = Luma::build(side, side, |x, y| {
        let (x, y) = (f64::from(x) - middle, f64::from(y) - middle);
        let (u, v) = (x * cos + y * sin + half[0], -x * sin + y * cos + half[1]);
        let inside = u >= 0.0 && v >= 0.0 && u < 2.0 * half[0] && v < 2.0 * half[1];
        if inside { symbol.cubic(u, v) } else { 180 }
    });
    let place = move |[u, v]: [f64; 2]| {
        let (u, v) = (u - half[0], v - half[1]);
        [u * cos - v * sin + middle, u * sin + v * cos + middle]
    };
    (picture, place)
}

fn read_all(picture: &Luma, wanted: &[Symbology]) -> Vec<Barcode> {
    let request = Request { wanted: wanted.to_vec(), ..Request::default() };
    read(picture, &request, &|| false).unwrap()
}

const TEXT: &str =
    "@\n\u{1e}\rANSI 636014100102DL00410288 no card, only its control characters and some length 0123456789";

#[test]
fn reads_every_document_symbology_with_its_bytes() {
    for symbology in Symbology::DOCUMENT {
        let text = match symbology {
            Symbology::Code39 | Symbology::Code128 => "VOUCH-123",
            Symbology::MicroQrCode => "12345",
            _ => TEXT,
        };
        let found = read_all(&draw(symbology, text, 4), &Symbology::DOCUMENT);
        let first = found.first().map(|code| (code.symbology, code.bytes.as_slice()));
        assert_eq!(first, Some((symbology, text.as_bytes())));
        assert_eq!(found[0].text, text);
    }
}

#[test]
fn a_turned_pdf417_is_read_where_the_decoder_alone_fails_and_its_corners_are_right() {
    let symbol = draw(Symbology::Pdf417, &TEXT.repeat(3), 3);
    for angle in [8.0, 25.0, 117.0, 200.0] {
        let (picture, place) = lay(&symbol, 1400, angle);
        let once = Request { wanted: vec![Symbology::Pdf417], effort: Effort::Once, ..Request::default() };
        assert_eq!(read(&picture, &once, &|| false).unwrap(), [], "{angle}");
        let found = read_all(&picture, &[Symbology::Pdf417]);
        assert_eq!(found.len(), 1, "{angle}");
        assert_eq!(found[0].bytes, TEXT.repeat(3).as_bytes(), "{angle}");
        assert!(found[0].agreed, "{angle}");
        // The quad is that of the symbol, inside its quiet zone, whichever of its corners comes first.
        let (w, h) = (f64::from(symbol.width()), f64::from(symbol.height()));
        for corner in [[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]].map(&place) {
            let distance = |point: &[f32; 2]| (f64::from(point[0]) - corner[0]).hypot(f64::from(point[1]) - corner[1]);
            let nearest = found[0].quad.iter().map(distance).fold(f64::MAX, f64::min);
            assert!(nearest < 30.0, "{angle}: {nearest}");
        }
    }
}

#[test]
fn goes_on_until_the_symbology_asked_for_is_found() {
    let (pdf417, code) = (draw(Symbology::Pdf417, &TEXT.repeat(2), 3), draw(Symbology::Code128, "INVENTORY-1", 3));
    let (turned, _) = lay(&pdf417, 1200, 12.0);
    let picture = Luma::build(1200, 1400, |x, y| match (y.checked_sub(1200), x.checked_sub(200)) {
        (None, _) => turned.pixels()[(y * 1200 + x) as usize],
        (Some(y), Some(x)) if x < code.width() && y < code.height() => code.pixels()[(y * code.width() + x) as usize],
        _ => 255,
    });
    let both = vec![Symbology::Pdf417, Symbology::Code128];
    let any = Request { wanted: both.clone(), ..Request::default() };
    let kinds = |request: &Request| {
        read(&picture, request, &|| false).unwrap().iter().map(|code| code.symbology).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&any), [Symbology::Code128]);
    assert_eq!(kinds(&Request { until: vec![Symbology::Pdf417], ..any }), [Symbology::Code128, Symbology::Pdf417]);
}

#[test]
fn stops_when_the_time_is_over() {
    let noise = Luma::build(300, 300, |x, y| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) as u8);
    let asked = Cell::new(0);
    let request = Request::default();
    assert_eq!(read(&noise, &request, &|| asked.replace(asked.get() + 1) >= 1), Ok(Vec::new()));
    assert_eq!(asked.get(), 2);
}

#[test]
fn reports_no_more_symbols_than_asked_for() {
    let code = draw(Symbology::QrCode, "BOMB", 2);
    let (w, h) = (code.width(), code.height());
    let picture = Luma::build(w * 20, h * 20, |x, y| code.pixels()[((y % h) * w + x % w) as usize]);
    assert_eq!(read_all(&picture, &Symbology::DOCUMENT).len(), usize::from(MAX_SYMBOLS));
    let request = Request { max_symbols: 3, ..Request::default() };
    assert_eq!(read(&picture, &request, &|| false).unwrap().len(), 3);
}

#[test]
fn quads_of_a_picture_that_had_to_be_shrunk_are_in_its_own_pixels() {
    let code = draw(Symbology::QrCode, "LARGE", 12);
    let (left, top) = (2800, 3100);
    let picture = Luma::build(4200, 4200, |x, y| match (x.checked_sub(left), y.checked_sub(top)) {
        (Some(x), Some(y)) if x < code.width() && y < code.height() => code.pixels()[(y * code.width() + x) as usize],
        _ => 255,
    });
    let found = read_all(&picture, &[Symbology::QrCode]);
    let corner = found[0].quad[0];
    // Four modules of quiet zone.
    assert!((corner[0] - (left + 48) as f32).abs() < 8.0 && (corner[1] - (top + 48) as f32).abs() < 8.0, "{corner:?}");
}

fn part(index: u32, count: Option<u32>, text: &str) -> Barcode {
    Barcode {
        symbology: Symbology::Pdf417,
        bytes: text.as_bytes().to_vec(),
        text: text.to_owned(),
        quad: [[0.0; 2]; 4],
        part: Some(Part { id: "017".to_owned(), index, count }),
        inverted: false,
        found_by: Attempt::Plain,
        agreed: true,
    }
}

#[test]
fn parts_are_joined_only_when_all_are_there() {
    let whole = join_parts(vec![part(2, Some(3), "C"), part(0, None, "A"), part(1, None, "B"), part(1, None, "B")]);
    assert_eq!(whole.iter().map(|code| (code.text.as_str(), code.part.is_none())).collect::<Vec<_>>(), [("ABC", true)]);
    assert_eq!(join_parts(vec![part(2, Some(3), "C"), part(0, None, "A")]).len(), 2);
    assert_eq!(join_parts(vec![part(0, None, "A"), part(1, None, "B")]).len(), 2);
}

#[test]
fn refuses_pixels_that_are_no_picture() {
    assert_eq!(Luma::new(0, 5, Vec::new()), None);
    assert_eq!(Luma::new(2, 2, vec![0; 5]), None);
    assert_eq!(Luma::new(70_000, 1, vec![0; 70_000]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_picture_makes_it_panic(width in 1u32..60, height in 1u32..60, seed in any::<u32>(), coarse in 1u32..9) {
        let picture = Luma::build(width, height, |x, y| {
            ((x / coarse).wrapping_mul(seed | 1) ^ (y / coarse).wrapping_mul(2_654_435_761)).wrapping_mul(seed | 3).to_be_bytes()[0]
        });
        let request = Request { wanted: Symbology::ALL.to_vec(), ..Request::default() };
        let result = read(&picture, &request, &|| false);
        prop_assert!(result.is_ok());
    }
}
