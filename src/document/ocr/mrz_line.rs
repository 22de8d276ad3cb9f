//! Reads lines of machine-readable zones with the project's own recogniser (`models/mrz`).
//!
//! Called by [`mrz_reader`](super::super::mrz_reader). The model gives probabilities for each four pixels of a [`Strip`]; what they
//! say of the characters is worked out by [`ctc`](super::ctc). Left out: what a line may hold; who knows that chooses among
//! [`Position::alternatives`].

use std::sync::Arc;

use super::strip::{self, Strip};
use super::{Quad, ctc};
use crate::error::Error;
use crate::imaging::Image;
use crate::inference::{ModelPort, Outputs, RequestContext, Tensor};

/// The characters of a machine-readable zone (ICAO Doc 9303-3, 4.3), in the order of the model's classes after the blank.
pub const MRZ_CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789<";

/// Columns of a strip for each frame of the output.
const FRAME_PX: usize = 4;

/// Widths of the input are multiples of this, so that the number of different shapes stays small. What is padded does not change the
/// result.
const WIDTH_MULTIPLE_PX: usize = 64;

/// Alternatives below this probability are not listed.
const MIN_ALTERNATIVE: f64 = 1e-4;

/// A character of a machine-readable zone, with what else it may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Position {
    /// Characters with their probabilities, the best first; never empty. All 37 together would add up to 1, those below 0.0001
    /// are left out.
    pub alternatives: Vec<(char, f64)>,
}

impl Position {
    /// The most probable character.
    pub fn best(&self) -> char {
        // Never empty, and a filler says least.
        self.alternatives.first().map_or('<', |&(character, _)| character)
    }

    /// How probable `character` is here, 0..1; 0 for one that is not listed.
    pub fn probability(&self, character: char) -> f64 {
        self.alternatives.iter().find(|(found, _)| *found == character).map_or(0.0, |&(_, probability)| probability)
    }

    /// From the probabilities of all characters, in any scale.
    fn new(masses: impl IntoIterator<Item = f64>) -> Option<Self> {
        let masses: Vec<f64> = masses.into_iter().collect();
        let total: f64 = masses.iter().sum();
        let mut alternatives: Vec<(char, f64)> =
            MRZ_CHARACTERS.chars().zip(masses).map(|(character, mass)| (character, mass / total)).collect();
        alternatives.sort_by(|a, b| b.1.total_cmp(&a.1));
        alternatives.retain(|&(_, probability)| probability >= MIN_ALTERNATIVE);
        (!alternatives.is_empty()).then_some(Self { alternatives })
    }
}

/// What the model saw of a line.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MrzLine {
    /// `[T, 38]`: of each frame the probabilities of the blank and of [`MRZ_CHARACTERS`].
    frames: Vec<f32>,
}

impl MrzLine {
    /// The characters that stand out by themselves, however many there are: the best class of each frame, equal neighbours counted
    /// once, blanks dropped.
    pub fn as_read(&self) -> Vec<Position> {
        let frames: Vec<&[f32]> = self.frames.chunks_exact(ctc::CLASSES).collect();
        let best_class = |frame: &&[f32]| {
            let best = frame.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(class, _)| class)
        };
        let best: Vec<usize> = frames.iter().map(best_class).collect();
        let mut positions = Vec::new();
        let mut start = 0;
        for run in best.chunk_by(|a, b| a == b) {
            let range = start..start + run.len();
            start = range.end;
            if run[0] == 0 {
                continue;
            }
            // The frames of one character share its evidence: sums over them, without the blank.
            let mass = |class: usize| frames[range.clone()].iter().map(|frame| f64::from(frame[class])).sum::<f64>();
            positions.extend(Position::new((1..ctc::CLASSES).map(mass)));
        }
        positions
    }

    /// The line as one of `length` characters, with the probability that it has so many. `None` if it cannot have.
    pub fn of_length(&self, length: usize) -> Option<(f64, Vec<Position>)> {
        let read = ctc::of_length(&self.frames, length)?;
        let positions: Option<Vec<Position>> = read.places.iter().map(|place| Position::new(*place)).collect();
        Some((read.probability, positions?))
    }
}

/// The reader. Whatever is in the picture, the answer consists of `A–Z`, `0–9` and `<`; text that is no line of a zone, or stands
/// upside down, is mostly answered with nothing.
#[derive(Clone)]
pub struct MrzRecogniser {
    port: ModelPort,
}

impl MrzRecogniser {
    pub fn new(port: ModelPort) -> Self {
        Self { port }
    }

    /// Reads the line in a quadrilateral of the picture that reaches from the top of the capital letters to the baseline. One that is not
    /// convex or has no area holds nothing.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn read(&self, image: &Image, quad: &Quad, context: &Arc<RequestContext>) -> Result<MrzLine, Error> {
        let Some(strip) = Strip::cut(image, quad) else { return Ok(MrzLine::default()) };
        let outputs = self.port.model.run(input(&strip), context)?;
        line(&outputs, strip.width)
    }
}

/// The strip as the model wants it, `[1, 32, width]`: less its mean and over its deviation, zeros on the right.
fn input(strip: &Strip) -> Tensor {
    let width = strip.width.next_multiple_of(WIDTH_MULTIPLE_PX);
    let count = strip.grey.len().max(1) as f64;
    let mean = strip.grey.iter().map(|&grey| f64::from(grey)).sum::<f64>() / count;
    let variance = strip.grey.iter().map(|&grey| (f64::from(grey) - mean).powi(2)).sum::<f64>() / count;
    // The constant keeps the noise of an empty strip small.
    let by = 1.0 / (variance.sqrt() + 5.0);
    let mut data = vec![0.0; strip::HEIGHT_PX * width];
    for (target, row) in data.chunks_exact_mut(width).zip(strip.grey.chunks_exact(strip.width)) {
        for (target, &grey) in target.iter_mut().zip(row) {
            *target = ((f64::from(grey) - mean) * by) as f32;
        }
    }
    Tensor { shape: vec![1, strip::HEIGHT_PX, width], data }
}

fn line(outputs: &Outputs, width: usize) -> Result<MrzLine, Error> {
    let (_, frames) = outputs.first().ok_or_else(|| Error::internal("the zone recogniser gave no output"))?;
    if frames.shape.last() != Some(&ctc::CLASSES) {
        return Err(Error::internal(format!("zone recogniser output of shape {:?}", frames.shape)));
    }
    if frames.data.iter().any(|value| !value.is_finite()) {
        return Err(Error::internal("the zone recogniser gave no probabilities"));
    }
    // What lies behind the strip is blank.
    let content = frames.data.len().min(width.div_ceil(FRAME_PX) * ctc::CLASSES);
    Ok(MrzLine { frames: frames.data[..content].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::ocr::fake::port;
    use crate::models::manifest::Role;

    fn recogniser(shape: [usize; 3], outputs: Outputs) -> MrzRecogniser {
        MrzRecogniser::new(port(Role::MrzRecogniser, shape, outputs))
    }

    fn named(shape: &[usize], data: Vec<f32>) -> Outputs {
        vec![("probabilities".into(), Tensor { shape: shape.into(), data })]
    }

    fn picture() -> Image {
        Image::build(300, 60, |rgb| rgb.fill(255))
    }

    /// 250 × 20 pixels: 12.5 heights, 142 columns, 16 more for the ends.
    const LINE: Quad = [[10.0, 10.0], [260.0, 10.0], [260.0, 30.0], [10.0, 30.0]];
    const SHAPE: [usize; 3] = [1, 32, 192];

    /// Frames over the blank and 37 characters, from lists of what is not 0.
    fn zone_outputs(frames: &[&[(char, f32)]]) -> Outputs {
        let class = |wanted: char| MRZ_CHARACTERS.find(wanted).map_or(0, |index| index + 1);
        let mut data = vec![0.0; frames.len() * ctc::CLASSES];
        for (frame, values) in data.chunks_exact_mut(ctc::CLASSES).zip(frames) {
            for &(character, probability) in *values {
                frame[class(character)] = probability;
            }
        }
        named(&[frames.len(), ctc::CLASSES], data)
    }

    #[test]
    fn positions_of_a_zone_keep_their_alternatives() {
        let frames: [&[(char, f32)]; 6] = [
            &[('_', 1.0)],
            &[('O', 0.5), ('0', 0.3), ('_', 0.2)],
            &[('O', 0.6), ('0', 0.4)],
            &[('_', 0.9), ('O', 0.1)],
            &[('<', 0.99995), ('K', 0.00005)],
            &[('_', 1.0)],
        ];
        let line = recogniser(SHAPE, zone_outputs(&frames)).read(&picture(), &LINE, &Arc::default()).unwrap();
        let positions = line.as_read();
        assert_eq!(positions.iter().map(Position::best).collect::<String>(), "O<");
        // (0.5 + 0.6) / 1.8 and (0.3 + 0.4) / 1.8.
        assert_eq!(positions[0].alternatives.len(), 2);
        assert!((positions[0].probability('O') - 1.1 / 1.8).abs() < 1e-6);
        assert!((positions[0].probability('0') - 0.7 / 1.8).abs() < 1e-6);
        assert_eq!(positions[0].probability('Q'), 0.0);
        assert_eq!(positions[1].alternatives.len(), 1, "what is next to impossible is not listed");
        // Three characters are possible too, but less probable.
        let (two, read) = line.of_length(2).unwrap();
        let (three, _) = line.of_length(3).unwrap();
        assert!(two > three && three > 0.0, "{two} {three}");
        assert_eq!(read.iter().map(Position::best).collect::<String>(), "O<");
        assert_eq!(line.of_length(7), None);
    }

    #[test]
    fn hopeless_quadrilaterals_hold_nothing() {
        for quad in [[[5.0, 5.0]; 4], [[f64::NAN; 2]; 4], [[0.0, 0.0], [9.0, 9.0], [9.0, 0.0], [0.0, 9.0]]] {
            let line = recogniser(SHAPE, Vec::new()).read(&picture(), &quad, &Arc::default()).unwrap();
            assert_eq!(line, MrzLine::default());
            assert_eq!(line.as_read(), []);
            assert_eq!(line.of_length(30), None);
        }
    }

    #[test]
    fn a_strip_is_normalised_over_its_content_and_padded_with_zeros() {
        let picture = Image::build(300, 60, |rgb| {
            for (at, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                pixel.fill(if at % 300 < 135 { 50 } else { 150 });
            }
        });
        let strip = Strip::cut(&picture, &LINE).unwrap();
        assert_eq!(strip.width, 158);
        let tensor = input(&strip);
        assert_eq!(tensor.shape, SHAPE);
        // Half of the columns 50 below the mean, half 50 above it; the deviation is 50, and 5 are added.
        assert!((tensor.data[10] + 50.0 / 55.0).abs() < 0.02, "{}", tensor.data[10]);
        assert!((tensor.data[140] - 50.0 / 55.0).abs() < 0.02, "{}", tensor.data[140]);
        assert!(tensor.data.chunks_exact(192).all(|row| row[158..].iter().all(|&value| value == 0.0)));
    }

    #[test]
    fn outputs_of_another_make_are_our_fault() {
        let refused = |outputs: Outputs| {
            matches!(recogniser(SHAPE, outputs).read(&picture(), &LINE, &Arc::default()), Err(Error::Internal { .. }))
        };
        assert!(refused(Vec::new()));
        assert!(refused(named(&[1, 37], vec![0.0; 37])));
        assert!(refused(named(&[1, 38], vec![f32::NAN; 38])), "38 values that are not numbers are no probabilities");
    }
}
