//! Pages and lines of text found, and lines read, with the real models.
//!
//! Needs the model pack (`make pack`).

#[path = "common/drawn.rs"]
mod drawn;

use std::sync::Arc;
use std::time::Duration;

use drawn::drawn;
use vouch::document::ocr::{MrzRecogniser, Position, Quad, TextDetector, TextRecogniser};
use vouch::document::page_locator::{LONG_SIDE_PX, PageLocator, PageView};
use vouch::imaging::Image;
use vouch::imaging::orient::{Rotation, rotate};
use vouch::inference::provider::{Device, GpuSettings};
use vouch::inference::registry::{InferenceSettings, Registry};
use vouch::inference::{ModelPort, RequestContext};
use vouch::models::manifest::{Manifest, Role};
use vouch::models::{find_pack_dir, verify_pack};
use vouch::specimen::document::{Kind, Options, specimen};
use vouch::specimen::photograph::{Photograph, Shot, photograph};

const TEXT: &str = "TAPE<<PETE<A247<<";

struct Readers {
    detector: TextDetector,
    text: TextRecogniser,
    zone: MrzRecogniser,
    locator: PageLocator,
}

fn readers() -> Readers {
    let pack = find_pack_dir(None);
    let manifest = Manifest::shipped().unwrap();
    let missing = verify_pack(&manifest, &pack).into_iter().find_map(Result::err);
    assert!(missing.is_none(), "{missing:?}; `make pack` makes a complete pack");
    let settings = InferenceSettings {
        device: Device::Cpu,
        gpu: GpuSettings::default(),
        sessions_per_model: 1,
        threads_per_session: 1,
        // Batches as on a GPU: what is asked at the same time is run together.
        max_batch: 32,
        max_batch_delay: Duration::from_millis(5),
        queue_per_model: 64,
        cores: 1,
    };
    let registry = Registry::load(&manifest, &Role::ALL, &pack, Some(&pack.join("cache")), &settings, None).unwrap();
    let port = |role: Role| {
        let model = registry.get(role).unwrap();
        ModelPort { model: Arc::clone(model) as _, input: model.entry.input.clone() }
    };
    Readers {
        detector: TextDetector::new(port(Role::TextDetector)),
        text: TextRecogniser::new(port(Role::TextRecogniser)),
        zone: MrzRecogniser::new(port(Role::MrzRecogniser)),
        locator: PageLocator::new(port(Role::PageLocator)),
    }
}

fn best(positions: &[Position]) -> String {
    positions.iter().map(Position::best).collect()
}

#[test]
fn a_drawn_line_is_found_and_read_whichever_way_the_picture_lies() {
    let Readers { detector, text, zone, .. } = readers();
    let context: Arc<RequestContext> = Arc::default();
    let upright = drawn(&[TEXT]);
    for rotation in [Rotation::R0, Rotation::R90, Rotation::R180, Rotation::R270] {
        let picture = rotate(&upright, rotation);
        let found = detector.find(&picture, 640, &context).unwrap();
        assert_eq!(found.len(), 1, "{rotation:?}: {found:?}");
        // Two of the four directions are read from the wrong end first.
        let readings = [found[0], found[0].turned()].map(|line| {
            (
                text.read(&picture, &line.quad, &context).unwrap(),
                zone.read(&picture, &line.capitals(), &context).unwrap().as_read(),
            )
        });
        let right = readings.iter().filter(|(line, _)| line.text == TEXT).collect::<Vec<_>>();
        assert_eq!(right.len(), 1, "{rotation:?}: {:?}", readings.each_ref().map(|(line, _)| &line.text));
        let (line, positions) = right[0];
        assert_eq!(best(positions), TEXT, "{rotation:?}");
        assert!(line.confidence > 0.8, "{rotation:?}: {}", line.confidence);
        assert!(positions.iter().all(|position| position.probability(position.best()) > 0.5), "{rotation:?}");
        // The seventh glyph begins at 6 of 17 steps of the text, which the rectangle surrounds.
        let [from, to] = line.characters[6].along;
        assert!((0.30..0.42).contains(&((from + to) / 2.0)), "{rotation:?}: {from} to {to}");
    }
}

#[test]
fn a_picture_without_text_has_no_lines_and_reads_as_nothing() {
    let Readers { detector, text, .. } = readers();
    let context: Arc<RequestContext> = Arc::default();
    let empty = drawn(&[]);
    assert_eq!(detector.find(&empty, 640, &context).unwrap(), []);
    let quad = [[40.0, 50.0], [500.0, 50.0], [500.0, 100.0], [40.0, 100.0]];
    assert_eq!(text.read(&empty, &quad, &context).unwrap().text, "");
}

#[test]
fn the_same_line_gives_the_same_bits_beside_others() {
    let Readers { zone, .. } = readers();
    let picture = drawn(&[TEXT]);
    let quad = [[40.0, 60.0], [516.0, 60.0], [516.0, 88.0], [40.0, 88.0]];
    let shifted = quad.map(|[x, y]| [x + 7.0, y + 2.0]);
    let narrower = [[40.0, 60.0], [260.0, 60.0], [260.0, 88.0], [40.0, 88.0]];
    let read = |index: usize| zone.read(&picture, &[quad, shifted, narrower][index % 3], &Arc::default()).unwrap();
    let alone: Vec<_> = (0..3).map(read).collect();
    assert!(alone[0] != alone[1] && alone[1] != alone[2]);
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..48).map(|index| scope.spawn(move || read(index))).collect();
        for (index, answer) in asked.into_iter().map(|thread| thread.join().unwrap()).enumerate() {
            assert!(answer == alone[index % 3], "strip {index}");
        }
    });
}

/// Photographs of one passport that lies in the picture whole: about upright, on either side, and upside down.
fn passports() -> Vec<Photograph> {
    let page = specimen(Kind::Td3, 41, &Options { dpi: 150, ..Options::default() }).pages.remove(0);
    let taken = [(1, 0.0), (42, 135.0), (3, 180.0), (9, -75.0)].map(|(seed, degrees)| {
        let taken = photograph(&page, &Shot { seed, level: 1, size_px: [960, 640] });
        let capture = taken.truth.capture.as_ref().unwrap();
        let off = (capture.angle_deg - degrees).rem_euclid(360.0);
        assert!(capture.corners_inside == 4 && !(20.0..=340.0).contains(&off), "seed {seed}: {capture:?}");
        taken
    });
    taken.into()
}

fn farthest(found: &Quad, truth: &Quad) -> f64 {
    found.iter().zip(truth).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).fold(0.0, f64::max)
}

#[test]
fn a_page_and_the_lines_of_its_zone_are_seen_upright_in_every_direction() {
    let Readers { locator, .. } = readers();
    for taken in passports() {
        let view = locator.look(&taken.image(), LONG_SIDE_PX, &Arc::default()).unwrap();
        let (truth, capture) = (&taken.truth, taken.truth.capture.as_ref().unwrap());
        let page = view.page.unwrap_or_else(|| panic!("no page at {}°", capture.angle_deg));
        let quad = &truth.document_quad;
        let diagonal = (quad[2][0] - quad[0][0]).hypot(quad[2][1] - quad[0][1]);
        assert!(farthest(&page.quad, quad) < 0.02 * diagonal, "{}°: {page:?} for {quad:?}", capture.angle_deg);
        assert!(page.confidence > 0.5, "{page:?}");
        let lines = &truth.mrz.as_ref().unwrap().quads;
        assert_eq!(view.lines.len(), lines.len(), "{}°: {:?}", capture.angle_deg, view.lines);
        for line in lines {
            let nearest = view.lines.iter().map(|found| farthest(&found.capitals(), line)).fold(f64::MAX, f64::min);
            // A character is as wide as a capital is high.
            assert!(nearest < capture.mrz_capital_px, "{}°: {nearest} px", capture.angle_deg);
        }
    }
}

#[test]
fn the_same_picture_is_seen_the_same_beside_others() {
    let Readers { locator, .. } = readers();
    let pictures: Vec<_> = passports().iter().map(Photograph::image).collect();
    let look = |index: usize| locator.look(&pictures[index % pictures.len()], LONG_SIDE_PX, &Arc::default()).unwrap();
    let alone: Vec<_> = (0..pictures.len()).map(look).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|index| scope.spawn(move || look(index))).collect();
        for (index, answer) in asked.into_iter().map(|thread| thread.join().unwrap()).enumerate() {
            assert_eq!(answer, alone[index % alone.len()]);
        }
    });
}

#[test]
fn a_picture_without_a_page_shows_none() {
    let Readers { locator, .. } = readers();
    for level in [40, 230] {
        let even = Image::build(640, 480, |rgb| rgb.fill(level));
        assert_eq!(locator.look(&even, LONG_SIDE_PX, &Arc::default()).unwrap(), PageView::default());
    }
}
