//! Lines of text found and read with the real models.
//!
//! Needs the model pack (`make pack`).

#[path = "common/drawn.rs"]
mod drawn;

use std::sync::Arc;
use std::time::Duration;

use drawn::drawn;
use vouch::document::ocr::{MrzRecogniser, Position, TextDetector, TextRecogniser};
use vouch::imaging::orient::{Rotation, rotate};
use vouch::inference::provider::Device;
use vouch::inference::registry::{InferenceSettings, Registry};
use vouch::inference::{ModelPort, RequestContext};
use vouch::models::manifest::{Manifest, Role};
use vouch::models::{find_pack_dir, verify_pack};

const TEXT: &str = "TAPE<<PETE<A247<<";

struct Readers {
    detector: TextDetector,
    text: TextRecogniser,
    zone: MrzRecogniser,
}

fn readers() -> Readers {
    let pack = find_pack_dir(None);
    let manifest = Manifest::shipped().unwrap();
    let missing = verify_pack(&manifest, &pack).into_iter().find_map(Result::err);
    assert!(missing.is_none(), "{missing:?}; `make pack` makes a complete pack");
    let settings = InferenceSettings {
        device: Device::Cpu,
        sessions_per_model: 1,
        threads_per_session: 1,
        max_batch: 0,
        max_batch_delay: Duration::ZERO,
        queue_per_model: 16,
        cores: 1,
    };
    let registry = Registry::load(&manifest, &Role::ALL, &pack, Some(&pack.join("cache")), &settings).unwrap();
    let port = |role: Role| {
        let model = registry.get(role).unwrap();
        ModelPort { model: Arc::clone(model) as _, input: model.entry.input.clone() }
    };
    Readers {
        detector: TextDetector::new(port(Role::TextDetector)),
        text: TextRecogniser::new(port(Role::TextRecogniser)),
        zone: MrzRecogniser::new(port(Role::MrzRecogniser)),
    }
}

fn best(positions: &[Position]) -> String {
    positions.iter().map(Position::best).collect()
}

#[test]
fn a_drawn_line_is_found_and_read_whichever_way_the_picture_lies() {
    let Readers { detector, text, zone } = readers();
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
    let narrower = [[40.0, 60.0], [260.0, 60.0], [260.0, 88.0], [40.0, 88.0]];
    let alone = zone.read(&picture, &quad, &Arc::default()).unwrap();
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6)
            .map(|index| {
                let (zone, picture) = (&zone, &picture);
                let quad = if index % 2 == 0 { quad } else { narrower };
                scope.spawn(move || zone.read(picture, &quad, &Arc::default()).unwrap())
            })
            .collect();
        for (index, answer) in asked.into_iter().map(|thread| thread.join().unwrap()).enumerate() {
            assert_eq!(answer == alone, index % 2 == 0);
        }
    });
}
