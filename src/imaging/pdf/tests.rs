//! Files are written here object by object; no PDF is stored.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::ExtendedColorType;
use image::ImageEncoder;
use image::codecs::jpeg::JpegEncoder;
use proptest::prelude::*;

use super::*;

/// Writes a PDF file of these objects, numbered from 1; the first is the catalogue.
fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    file_with_trailer(objects, "")
}

fn file_with_trailer(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(out.len());
        writeln!(out, "{} 0 obj", index + 1).unwrap();
        out.extend(object);
        out.extend(b"\nendobj\n");
    }
    let start = out.len();
    write!(out, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).unwrap();
    for offset in offsets {
        writeln!(out, "{offset:010} 00000 n ").unwrap();
    }
    write!(out, "trailer\n<< /Size {} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF\n", objects.len() + 1)
        .unwrap();
    out
}

fn stream(dict: &str, data: &[u8]) -> Vec<u8> {
    let mut out = format!("<< {dict} /Length {} >>\nstream\n", data.len()).into_bytes();
    out.extend(data);
    out.extend(b"\nendstream");
    out
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// One page: catalogue 1, tree 2, page 3 with the resources as given, content 4, then `more` from 5 on.
fn one_page(media_box: &str, page_more: &str, content: &[u8], more: Vec<Vec<u8>>) -> Vec<u8> {
    let mut objects = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        format!("<< /Type /Page /Parent 2 0 R /MediaBox {media_box} /Contents 4 0 R {page_more} >>").into_bytes(),
        stream("", content),
    ];
    objects.extend(more);
    file(&objects)
}

/// Four even quadrants: red, green / blue, yellow.
fn quadrants(width: u32, height: u32) -> Vec<u8> {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            rgb.extend(match (x >= width / 2, y >= height / 2) {
                (false, false) => [220, 30, 30],
                (true, false) => [30, 200, 40],
                (false, true) => [20, 40, 210],
                (true, true) => [230, 220, 20],
            });
        }
    }
    rgb
}

fn jpeg(rgb: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, 95).write_image(rgb, width, height, ExtendedColorType::Rgb8).unwrap();
    out
}

/// A page of this size in points that is filled by a JPEG of quadrants.
fn scan(page: (f64, f64), pixels: (u32, u32), page_more: &str) -> Vec<u8> {
    let (width, height) = pixels;
    let picture = format!(
        "/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode"
    );
    let content = format!("q {} 0 0 {} 0 0 cm /Im0 Do Q", page.0, page.1);
    one_page(
        &format!("[0 0 {} {}]", page.0, page.1),
        &format!("/Resources << /XObject << /Im0 5 0 R >> >> {page_more}"),
        content.as_bytes(),
        vec![stream(&picture, &jpeg(&quadrants(width, height), width, height))],
    )
}

fn never() -> bool {
    false
}

fn render_first(bytes: &[u8]) -> Result<RenderedPage, PdfError> {
    render(bytes, 0, &PdfOptions::default(), &never)
}

fn assert_near(found: [u8; 3], expected: [u8; 3]) {
    assert!(found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 6), "{found:?} is not {expected:?}");
}

#[test]
fn a_scan_keeps_its_pixels() {
    for (page, pixels) in [((595.276, 841.89), (620, 877)), ((400.0, 300.0), (400, 300)), ((241.0, 153.0), (1012, 638))]
    {
        let bytes = scan(page, pixels, "");
        assert!(is_pdf(&bytes));
        let rendered = render_first(&bytes).unwrap();
        assert!(rendered.is_scan);
        assert_eq!((rendered.image.width, rendered.image.height), pixels);
        let (width, height) = pixels;
        for (x, y, expected) in [
            (5, 5, [220, 30, 30]),
            (width - 5, 5, [30, 200, 40]),
            (5, height - 5, [20, 40, 210]),
            (width - 5, height - 5, [230, 220, 20]),
            (width / 2 - 3, height / 2 - 3, [220, 30, 30]),
            (width / 2 + 3, height / 2 + 3, [230, 220, 20]),
        ] {
            assert_near(rendered.image.pixel(x, y), expected);
        }
    }
}

#[test]
fn a_turned_page_is_rendered_upright() {
    // /Rotate 90: the page is to be shown turned clockwise, so its lower left corner comes to the upper left.
    let rendered = render_first(&scan((300.0, 200.0), (600, 400), "/Rotate 90")).unwrap();
    assert_eq!((rendered.image.width, rendered.image.height), (400, 600));
    assert_near(rendered.image.pixel(5, 5), [20, 40, 210]);
    assert_near(rendered.image.pixel(394, 5), [220, 30, 30]);
}

#[test]
fn resolution_stays_within_bounds() {
    // 1200 dpi is reduced to 400.
    let rendered = render_first(&scan((72.0, 36.0), (1200, 600), "")).unwrap();
    assert_eq!((rendered.image.width, rendered.image.height), (400, 200));
    // A page of 4000 × 3000 points at 72 dpi, as cameras' files are converted, is not enlarged.
    let rendered = render_first(&scan((800.0, 600.0), (800, 600), "")).unwrap();
    assert_eq!(rendered.dpi.round(), 72.0);
    // A page beyond the limit of pixels is reduced a little, and refused where it would be reduced much.
    let bytes = scan((400.0, 300.0), (400, 300), "");
    let options = |max_pixels| PdfOptions { max_pixels, ..PdfOptions::default() };
    let rendered =
        render(&one_page("[0 0 720 720]", "", b"0 0 1 rg 0 0 720 720 re f", vec![]), 0, &options(2_000_000), &never);
    let image = rendered.unwrap().image;
    assert!((1_900_000..=2_000_000).contains(&(image.width * image.height)), "{} × {}", image.width, image.height);
    assert_near(image.pixel(3, 3), [0, 0, 255]);
    assert_eq!(render(&bytes, 0, &options(119_999), &never).unwrap_err().code(), "IMAGE_TOO_LARGE");
}

#[test]
fn a_drawn_page_is_rendered_at_the_least_resolution() {
    let font = "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Courier >> >> >>";
    let bytes = one_page("[0 0 360 72]", font, b"BT /F1 24 Tf 20 30 Td (P<UTOERIKSSON) Tj ET", vec![]);
    let rendered = render_first(&bytes).unwrap();
    assert_eq!((rendered.image.width, rendered.image.height, rendered.is_scan), (1000, 200, false));
    let dark = rendered.image.rgb.chunks_exact(3).filter(|pixel| pixel[0] < 100).count();
    assert!((3_000..40_000).contains(&dark), "{dark} dark pixels");
    assert_near(rendered.image.pixel(2, 2), [255; 3]);
}

#[test]
fn pages_are_counted_and_chosen() {
    let pages = |count: usize| {
        let kids: String = (0..count).map(|index| format!("{} 0 R ", 3 + 2 * index)).collect();
        let mut objects = vec![
            b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
            format!("<< /Type /Pages /Kids [{kids}] /Count {count} /MediaBox [0 0 72 72] >>").into_bytes(),
        ];
        for index in 0..count {
            objects.push(format!("<< /Type /Page /Parent 2 0 R /Contents {} 0 R >>", 4 + 2 * index).into_bytes());
            objects.push(stream("", if index == 1 { b"1 0 0 rg 0 0 72 72 re f" } else { b"0 1 0 rg 0 0 72 72 re f" }));
        }
        file(&objects)
    };
    let options = PdfOptions::default();
    let three = pages(3);
    assert_eq!(page_count(&three, &options, &never), Ok(3));
    assert_near(render(&three, 1, &options, &never).unwrap().image.pixel(9, 9), [255, 0, 0]);
    assert!(render(&three, 2, &options, &never).is_ok());
    assert_eq!(render(&three, 3, &options, &never).unwrap_err().code(), "PDF_EMPTY");
    let started = Instant::now();
    assert_eq!(page_count(&pages(500), &options, &never), Err(PdfError::TooManyPages { allowed: 50 }));
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(matches!(page_count(&pages(0), &options, &never).unwrap_err().code(), "PDF_EMPTY" | "PDF_DAMAGED"));
}

#[test]
fn pictures_that_look_like_structure_by_chance_are_read() {
    let resources = "/Resources << /XObject << /N 5 0 R >> >>";
    let image = "/Type /XObject /Subtype /Image /Width 60 /Height 60 /ColorSpace /DeviceGray /BitsPerComponent 8";
    // Unpacked pixels of the value of `<`, and such as spell the name of the widths of a cross-reference stream beside a filter's.
    let mut names = vec![100; 3600];
    names[40..61].copy_from_slice(b"/RL /W [12x] /A85 /W ");
    for pixels in [vec![b'<'; 3600], names] {
        let file = one_page("[0 0 60 60]", resources, b"60 0 0 60 0 0 cm /N Do", vec![stream(image, &pixels)]);
        assert_eq!(render_first(&file).unwrap().image.pixel(59, 59), [pixels[3599]; 3]);
    }
    assert!(is_pdf(b" \n%PDF-1.4") && !is_pdf(b"\xff\xd8\xff\xfe\0\x0c from %PDF-1.4"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let good = scan((72.0, 36.0), (72, 36), "");
    assert_eq!(render_first(b"%PDF-1.7\nnothing here").unwrap_err().code(), "PDF_DAMAGED");
    assert_eq!(render_first(b"").unwrap_err().code(), "PDF_DAMAGED");
    for trailer in ["/Encrypt << /Filter /Standard /V 1 /R 2 >>", "/En#63rypt 9 0 R"] {
        let bytes = file_with_trailer(&[b"<< /Type /Catalog /Pages 2 0 R >>".to_vec()], trailer);
        assert_eq!(render_first(&bytes).unwrap_err(), PdfError::Encrypted, "{trailer}");
    }
    let blank = render_first(&one_page("[0 0 72 72]", "", b"", vec![])).unwrap();
    assert!(blank.image.rgb.iter().all(|value| *value == 255));
    let picture = b"\xff\xd8\xff";
    let at = good.windows(3).position(|window| window == picture).unwrap();
    let mut broken = good.clone();
    broken[at + 2..at + 200].fill(0);
    assert_eq!(render_first(&broken).unwrap_err(), PdfError::Damaged);
    let options = PdfOptions { max_bytes: good.len() as u64 - 1, ..PdfOptions::default() };
    assert_eq!(render(&good, 0, &options, &never).unwrap_err().code(), "IMAGE_TOO_LARGE");
    assert_eq!(render(&good, 0, &PdfOptions::default(), &|| true).unwrap_err(), PdfError::DeadlineExceeded);
    assert!(!is_pdf(b"\xff\xd8\xff") && !is_pdf(b"") && is_pdf(b"\xef\xbb\xbf%PDF-1.4"));
}

/// Renders with a deadline of twenty seconds, and fails the test if it takes longer or gives a picture.
fn assert_refused(name: &str, bytes: &[u8], codes: &[&str]) {
    let started = Instant::now();
    let deadline = || started.elapsed() > Duration::from_secs(20);
    let result = render(bytes, 0, &PdfOptions::default(), &deadline);
    let took = started.elapsed();
    match result {
        Ok(_) => panic!("{name} was rendered"),
        Err(error) => {
            println!("{name}: {} bytes, {} after {took:?}", bytes.len(), error.code());
            assert!(codes.contains(&error.code()), "{name}: {error}");
        }
    }
    assert!(took < Duration::from_secs(30), "{name} took {took:?}");
}

#[test]
fn hostile_files_are_refused_in_time() {
    let a4 = "[0 0 595 842]";
    let too_large = &["IMAGE_TOO_LARGE"][..];
    assert_refused("huge page", &one_page("[0 0 99999 99999]", "", b"0 0 9 9 re f", vec![]), too_large);
    assert_refused("page of no finite size", &one_page("[0 0 1e38 1e38]", "", b"0 0 9 9 re f", vec![]), &["PDF_EMPTY"]);

    let bomb = deflated(&vec![0; 300 << 20]);
    let with = |dict: &str, data: &[u8]| {
        let mut objects = vec![
            b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
            format!("<< /Type /Page /Parent 2 0 R /MediaBox {a4} /Contents 4 0 R >>").into_bytes(),
        ];
        objects.push(stream(dict, data));
        file(&objects)
    };
    assert_refused("deflate bomb", &with("/Filter /FlateDecode", &bomb), too_large);
    let twice = deflated(&bomb);
    assert_refused("bomb in a bomb", &with("/Filter [/FlateDecode /FlateDecode]", &twice), too_large);
    let hex: String = twice.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_refused("bomb in hex", &with("/Filter [/AHx /Fl /Fl]", hex.as_bytes()), too_large);
    assert_refused("LZW bomb", &with("/Filter [/LZWDecode /LZWDecode /LZWDecode]", &[0x80; 5000]), too_large);

    // An object stream is expanded while the file is parsed: 5 holds the page tree, 6 is the cross-reference stream.
    let object_stream = |filter: &str, data: &[u8]| {
        let mut bytes = b"%PDF-1.7\n".to_vec();
        let mut offsets = vec![0];
        for object in [
            b"<< /Type /Catalog /Pages 4 0 R >>".to_vec(),
            stream(&format!("/Type /ObjStm /N 1 /First 4 {filter}"), data),
        ] {
            offsets.push(bytes.len());
            writeln!(bytes, "{} 0 obj", offsets.len() - 1).unwrap();
            bytes.extend(object);
            bytes.extend(b"\nendobj\n");
        }
        let start = bytes.len();
        let table: Vec<u8> = [(0, 0, 0), (1, offsets[1], 0), (1, offsets[2], 0), (1, start, 0), (2, 2, 0)]
            .iter()
            .flat_map(|(kind, offset, index)| [&[*kind][..], &(*offset as u32).to_be_bytes(), &[*index]].concat())
            .collect();
        bytes.extend(b"3 0 obj\n");
        bytes.extend(stream("/Type /XRef /Size 5 /W [1 4 1] /Root 1 0 R", &table));
        write!(bytes, "\nendobj\nstartxref\n{start}\n%%EOF\n").unwrap();
        bytes
    };
    let tree = b"4 0 << /Type /Pages /Count 1 /Kids [<< /Type /Page /MediaBox [0 0 9 9] >>] >>";
    let packed = object_stream("/Filter /FlateDecode", &deflated(tree));
    assert_eq!(page_count(&packed, &PdfOptions::default(), &never), Ok(1));
    assert_refused("object stream bomb", &object_stream("/Filter /FlateDecode", &bomb), too_large);
    assert_refused(
        "double object stream bomb",
        &object_stream("/Filter [/FlateDecode /FlateDecode]", &twice),
        too_large,
    );
    let thrice = deflated(&twice);
    assert_refused("triple object stream bomb", &object_stream("/Filter [/Fl /Fl /Fl]", &thrice), too_large);
    assert_refused("LZW object stream", &object_stream("/Filter /L#5aWDecode", &[0x80; 5000]), &["PDF_UNSUPPORTED"]);

    // The same small stream again and again.
    let part = deflated(&vec![b' '; 8 << 20]);
    let bytes = file(&[
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        format!("<< /Type /Page /Parent 2 0 R /MediaBox {a4} /Contents [{}] >>", "4 0 R ".repeat(1000)).into_bytes(),
        stream("/Filter /FlateDecode", &part),
    ]);
    assert_refused("repeated content", &bytes, too_large);

    // Thirty forms that each draw the next one twice: 2^30 operations.
    let forms: Vec<Vec<u8>> = (0..30)
        .map(|level| {
            let dict = format!(
                "/Type /XObject /Subtype /Form /BBox [0 0 500 500] /Resources << /XObject << /N {} 0 R >> >>",
                6 + level
            );
            stream(&dict, if level == 29 { b"0 0 5 5 re f" } else { b"/N Do /N Do" })
        })
        .collect();
    let resources = "/Resources << /XObject << /N 5 0 R >> >>";
    assert_refused("doubling forms", &one_page(a4, resources, b"/N Do", forms), too_large);

    let image = "/Type /XObject /Subtype /Image /Width 60000 /Height 60000 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode";
    let resources = "/Resources << /XObject << /N 5 0 R >> >>";
    assert_refused(
        "huge picture",
        &one_page(a4, resources, b"500 0 0 500 0 0 cm /N Do", vec![stream(image, &part)]),
        too_large,
    );
    let image = image.replace("60000", "4000");
    let content = b"q 500 0 0 500 0 0 cm /N Do Q ".repeat(1000);
    assert_refused(
        "a picture drawn 1000 times",
        &one_page(a4, resources, &content, vec![stream(&image, &part)]),
        too_large,
    );
    let inline = b"500 0 0 500 0 0 cm BI /W 60000 /H 60000 /CS /RGB /BPC 8 ID xx EI";
    assert_refused("huge inline picture", &one_page(a4, "", inline, vec![]), too_large);

    let jbig2 = |width: u32, height: u32| {
        [&b"\0\0\0\0\x30\x00\x01\x00\x00\x00\x13"[..], &width.to_be_bytes(), &height.to_be_bytes(), &[0; 11]].concat()
    };
    let dict = |filter: &str| {
        format!(
            "/Type /XObject /Subtype /Image /Width 9 /Height 9 /ColorSpace /DeviceGray /BitsPerComponent 1 /Filter /{filter}"
        )
    };
    let jpx = [&b"\xff\x4f\xff\x51\0\x29\0\0\0\0\xff\xff\0\0\xff\xff"[..], &[0; 40]].concat();
    // In a box of free space, which readers pass over.
    let decoy = [&b"\0\0\0\x3cfree\xff\x4f\xff\x51\0\x29\0\0\0\0\0\x09\0\0\0\x09"[..], &[0; 36]].concat();
    for (name, dict, data) in [
        ("huge JBIG2", dict("JBIG2Decode"), jbig2(60_000, 60_000)),
        (
            "huge JBIG2 region",
            dict("JBIG2Decode"),
            [&jbig2(9, 9)[..], b"\0\0\0\x01\x26\0\x01\0\0\0\x12", &[0, 0, 0xff, 0xff].repeat(2), &[0; 10]].concat(),
        ),
        ("huge JPEG 2000 behind a small one", dict("JPXDecode"), [&decoy[..], &jpx].concat()),
        ("huge JPEG 2000", dict("JPXDecode"), jpx),
        ("huge fax", dict("CCITTFaxDecode /DecodeParms << /Columns 99999999 /K -1 >>"), vec![0; 9]),
    ] {
        assert_refused(
            name,
            &one_page(a4, resources, b"500 0 0 500 0 0 cm /N Do", vec![stream(&dict, &data)]),
            too_large,
        );
    }
    let ends_missing = (0..20_000).map(|_| b"<< /Length 99999999 >>\nstream\nabc".to_vec()).collect();
    assert_refused("streams without end", &one_page(a4, "", b"", ends_missing), &["PDF_DAMAGED"]);

    assert_refused("dashes", &one_page(a4, "", b"[0.00001] 0 d 1 w 0 0 m 500 500 l S", vec![]), too_large);
    let mut zigzag = b"0 0 m ".to_vec();
    (0..400_000).for_each(|i| write!(zigzag, "{} {} l ", i % 590, (i % 2) * 840).unwrap());
    zigzag.extend(b"S");
    assert_refused("zigzag", &one_page(a4, "", &zigzag, vec![]), too_large);
    assert_refused("painted over and over", &one_page(a4, "", &b"0 0 595 842 re f ".repeat(50_000), vec![]), too_large);

    let pattern = |step: &str| {
        stream(
            &format!(
                "/PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 500 500] /XStep {step} /YStep {step} /Resources << >>"
            ),
            b"0 0 500 500 re f",
        )
    };
    let resources = "/Resources << /Pattern << /P 5 0 R >> >>";
    let content = b"/Pattern cs /P scn 0 0 500 500 re f";
    assert_refused("dense pattern", &one_page(a4, resources, content, vec![pattern("0.01")]), too_large);
    let mesh = stream(
        "/ShadingType 4 /ColorSpace /DeviceRGB /BitsPerCoordinate 8 /BitsPerComponent 8 /BitsPerFlag 8 /Decode [0 1000000 0 1000000 0 1 0 1 0 1]",
        &[0, 0, 0, 9, 9, 9, 0, 255, 0, 9, 9, 9, 0, 0, 255, 9, 9, 9],
    );
    assert_refused("mesh", &one_page(a4, "/Resources << /Shading << /S 5 0 R >> >>", b"/S sh", vec![mesh]), too_large);
}

#[test]
fn odd_files_end_in_a_result() {
    // Results differ, but none hangs, overflows the stack or escapes as a panic.
    let a4 = "[0 0 595 842]";
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000)).into_bytes();
    let own_form = stream(
        "/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /N 5 0 R >> >>",
        b"/N Do /N Do",
    );
    let files = [
        (
            "page tree with a circle",
            file(&[
                b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
                b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 /Parent 2 0 R >>".to_vec(),
            ]),
        ),
        ("form that draws itself", one_page(a4, "/Resources << /XObject << /N 5 0 R >> >>", b"/N Do", vec![own_form])),
        ("nested arrays", one_page(a4, "", b"", vec![nested("[", "]")])),
        ("dictionaries nested 300 deep", one_page(a4, "/Resources 5 0 R", b"/A gs", vec![b"<</A ".repeat(300)])),
        (
            "arrays in dictionaries",
            one_page(a4, "/Resources 5 0 R", b"/A gs", vec![[&b"<</A "[..], &nested("[", "]"), b">>"].concat()]),
        ),
        ("nested dictionaries", one_page(a4, "/Resources 5 0 R", b"/A gs", vec![nested("<</A ", ">>")])),
        ("nested arrays in content", one_page(a4, "", &nested("[", "]"), vec![])),
        ("nested states", one_page(a4, "", &nested("q ", "Q "), vec![])),
        (
            "strange numbers",
            one_page(
                "[-1e30 nan 595 842]",
                "/Rotate 45",
                b"1e30 0 0 -1e30 1e38 0 cm 0 0 1e38 1e38 re f 1e-40 w S",
                vec![],
            ),
        ),
    ];
    for (name, bytes) in files {
        let started = Instant::now();
        let result = render(&bytes, 0, &PdfOptions::default(), &|| started.elapsed() > Duration::from_secs(20));
        let text = result.map_or_else(|error| error.code().to_string(), |page| format!("{} px wide", page.image.width));
        println!("{name}: {} bytes, {text} after {:?}", bytes.len(), started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(30), "{name}");
    }
}

/// Files that just keep the limits, or that cost most before a limit is met: each ends, and soon.
#[test]
fn the_costliest_files_are_bounded() {
    let a4 = "[0 0 595 842]";
    let run = |name: &str, make: &dyn Fn() -> Vec<u8>| {
        let bytes = make();
        let started = Instant::now();
        let result = render(&bytes, 0, &PdfOptions::default(), &never);
        let text = result
            .map_or_else(|error| format!("{error:?}"), |page| format!("{} x {}", page.image.width, page.image.height));
        println!("{name}: {} bytes, {text}, {:?}", bytes.len(), started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(60), "{name}");
    };
    let resources = "/Resources << /XObject << /N 5 0 R >> >>";
    run("fills", &|| {
        one_page(
            a4,
            "/Resources << /ExtGState << /G << /ca 0.5 >> >> >>",
            &[&b"/G gs "[..], &b"0 0 595 842 re f ".repeat(245)].concat(),
            vec![],
        )
    });
    run("zigzag", &|| {
        let mut zigzag = b"0 0 m ".to_vec();
        (0..16_000).for_each(|i| write!(zigzag, "{} {} l ", i % 590, (i % 2) * 840).unwrap());
        zigzag.extend(b"S");
        one_page(a4, "", &zigzag, vec![])
    });
    run("zigzag-clip", &|| {
        let mut zigzag = b"0 0 m ".to_vec();
        (0..16_000).for_each(|i| write!(zigzag, "{} {} l ", i % 590, (i % 2) * 840).unwrap());
        zigzag.extend(b"W n 0 0 595 842 re f ");
        one_page(a4, "", &zigzag, vec![])
    });
    run("layers", &|| {
        let form =
            stream("/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Group << /S /Transparency >>", b"0 0 3 3 re f");
        one_page(
            a4,
            "/Resources << /XObject << /N 5 0 R >> /ExtGState << /G << /ca 0.5 >> >> >>",
            &[&b"/G gs "[..], &b"/N Do ".repeat(1990)].concat(),
            vec![form],
        )
    });
    run("nested-layers", &|| {
        let forms: Vec<Vec<u8>> = (0..48)
            .map(|level| {
                let dict = format!("/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Group << /S /Transparency >> /Resources << /XObject << /N {} 0 R >> /ExtGState << /G << /ca 0.5 >> >> >>", 6 + level);
                stream(&dict, if level == 47 { b"0 0 595 842 re f" } else { b"/G gs /N Do" })
            })
            .collect();
        one_page(a4, resources, b"/N Do", forms)
    });
    run("soft-masks", &|| {
        let mut more = vec![];
        let mut states = String::new();
        for index in 0..8 {
            more.push(stream(
                "/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Group << /S /Transparency /CS /DeviceGray >>",
                b"0.5 g 0 0 500 500 re f",
            ));
            states += &format!("/G{index} << /SMask << /S /Luminosity /G {} 0 R >> >> ", 5 + index);
        }
        let content: String = (0..200).map(|index| format!("q /G{} gs 0 0 595 842 re f Q ", index % 8)).collect();
        one_page("[0 0 2000 2000]", &format!("/Resources << /ExtGState << {states} >> >>"), content.as_bytes(), more)
    });
    run("tiny-paths", &|| one_page(a4, "", &b"9 9 1 1 re f ".repeat(299_000), vec![]));
    run("many-elements", &|| {
        one_page(a4, "", &[&b"0 0 m "[..], &b"1 1 2 2 3 3 c ".repeat(1_000_000), b"f"].concat(), vec![])
    });
    run("glyphs", &|| {
        one_page(
            a4,
            "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Courier >> >> >>",
            &[&b"BT /F1 300 Tf 1 0 0 1 0 0 Tm "[..], &b"1 0 0 1 1 1 Tm (@) Tj ".repeat(4_000), b"ET"].concat(),
            vec![],
        )
    });
    run("radial", &|| {
        one_page(
            a4,
            "/Resources << /Shading << /S << /ShadingType 3 /ColorSpace /DeviceRGB /Coords [100 100 10 300 300 200] /Function << /FunctionType 2 /Domain [0 1] /C0 [0 0 0] /C1 [1 0 1] /N 1.3 >> >> >> >>",
            &b"/S sh ".repeat(29),
            vec![],
        )
    });
    run("picture-32MP", &|| {
        let side = 5600;
        let image = format!(
            "/Type /XObject /Subtype /Image /Width {side} /Height {side} /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode"
        );
        one_page(
            a4,
            resources,
            b"q 595 0 0 842 0 0 cm /N Do Q",
            vec![stream(&image, &deflated(&vec![77; side * side * 3]))],
        )
    });
    run("picture-jpeg-31MP", &|| {
        let rgb = quadrants(5600, 5600);
        let image = "/Type /XObject /Subtype /Image /Width 5600 /Height 5600 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode";
        one_page(a4, resources, b"q 595 0 0 842 0 0 cm /N Do Q", vec![stream(image, &jpeg(&rgb, 5600, 5600))])
    });
    let nested = |depth: usize| format!("{}{}", "<</A ".repeat(depth), ">>".repeat(depth)).into_bytes();
    run("nested-dicts-100k", &|| one_page(a4, "/Resources 5 0 R", b"/A gs", vec![nested(100_000)]));
    run("nested-dicts-400k", &|| one_page(a4, "/Resources 5 0 R", b"/A gs", vec![nested(400_000)]));
    run("streams-without-end", &|| {
        one_page(a4, "", b"", (0..20_000).map(|_| b"<< /Length 99999999 >>\nstream\nabc".to_vec()).collect())
    });
    run("many-objects", &|| one_page(a4, "", b"", (0..400_000).map(|_| b"<< >>".to_vec()).collect()));
    run("broken-xref-many-objects", &|| {
        let mut bytes = one_page(a4, "", b"", (0..400_000).map(|_| b"<< /A [1 2 3] >>".to_vec()).collect());
        let at = bytes.windows(9).rposition(|window| window == b"startxref").unwrap();
        bytes.truncate(at);
        bytes
    });
    run("stream-data-30MB", &|| one_page(a4, "", &b"1 0 0 1 0 0 cm ".repeat(1_100_000), vec![]));
}

proptest! {
    // PROPTEST_CASES=20000 makes a short fuzzing run of it.
    #[test]
    fn changed_bytes_never_escape(
        kind in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let font = "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> /Shading << /S << /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 72 72] /Function << /FunctionType 2 /Domain [0 1] /C0 [0 0 0] /C1 [1 0 1] /N 1 >> >> >> /Pattern << /P 5 0 R >> >>";
        let drawn = b"q 1 0 0 1 3 3 cm /S sh BT /F1 12 Tf 3 9 Td (Text) Tj ET [3 1] 0 d 2 w 0 0 m 9 40 30 60 70 70 c B /Pattern cs /P scn 5 5 40 20 re f Q";
        let pattern = "/PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 9 9] /XStep 9 /YStep 9 /Resources << >>";
        let mut bytes = match kind {
            0 => scan((72.0, 36.0), (72, 36), ""),
            1 => one_page("[0 0 72 72]", font, drawn, vec![stream(pattern, b"1 0 0 rg 0 0 5 5 re f")]),
            2 => {
                let packed = deflated(drawn);
                let mut file = one_page("[0 0 72 72]", font, b"", vec![stream(pattern, b"0 0 5 5 re f"), stream("/Filter /FlateDecode", &packed)]);
                let at = file.windows(15).position(|window| window == b"/Contents 4 0 R").unwrap();
                file[at + 10] = b'6';
                file
            }
            _ => {
                let image = "/Type /XObject /Subtype /Image /Width 40 /Height 30 /ColorSpace /DeviceGray /BitsPerComponent 1 /Filter /CCITTFaxDecode /DecodeParms << /K -1 /Columns 40 >>";
                one_page("[0 0 72 72]", "/Resources << /XObject << /N 5 0 R >> >>", b"72 0 0 72 0 0 cm /N Do", vec![stream(image, &[0x26, 0xa0, 0xd4, 0x35, 0x91, 0x77, 0x0f, 0x00, 0x10, 0x01])])
            }
        };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let options = PdfOptions { max_pixels: 1_000_000, ..PdfOptions::default() };
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            let started = Instant::now();
            let result = render(bytes, 0, &options, &never);
            prop_assert!(started.elapsed() < Duration::from_secs(30), "took {:?}", started.elapsed());
            if let Ok(page) = result {
                prop_assert!(u64::from(page.image.width) * u64::from(page.image.height) <= options.max_pixels);
            }
        }
    }
}
