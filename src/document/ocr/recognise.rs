//! Reads lines of text with a recogniser that gives, for each eight pixels of the line, the probabilities of the characters.
//!
//! Source: connectionist temporal classification (Graves et al., ICML 2006), decoded greedily: the best class of each frame, equal
//! neighbours counted once, blanks dropped. The model comes from `models::convert::ctc`, which says what its outputs are. Left
//! out: dictionaries and grammars; lines of machine-readable zones, which [`mrz_line`](super::mrz_line) reads.

use std::ops::Range;
use std::sync::Arc;

use super::{Quad, quad_size};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::tensor::to_tensor;
use crate::imaging::warp::{Perspective, Sampling, warp};
use crate::inference::{ModelPort, RequestContext, Tensor, output};

/// Widths of the input are multiples of this, so that the same line always meets the same padding, whatever else runs, and the
/// number of different shapes stays small.
const WIDTH_MULTIPLE_PX: usize = 32;

/// Narrowest input. PaddleOCR pads to 320 (`rec_image_shape`), which most captions and values of a document do not fill; a run's cost grows with its width, and what is read
/// stays the same (ARCHITECTURE.md).
const MIN_WIDTH_PX: usize = 64;

/// Lines are squeezed to this share of their length, since a run costs in proportion to it. Of 616 lines of receipts (SROIE) 93.7 % were read exactly with 1, 93.8 % with 0.85, 93.2 % with
/// 0.75, 92.2 % with 0.66, 90.4 % with 0.55; characters wrong 0.86, 0.83, 0.91, 0.98 and 1.39 %.
const SQUEEZE: f64 = 0.8;

/// Widest content. A line that is longer for its height (more than 66 times) is squeezed, which no real text needs; raised, a
/// hostile quadrilateral costs more.
const MAX_CONTENT_PX: usize = 3200;

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    pub text: String,
    /// Mean probability of the characters, 0..1; 0 for a line without characters.
    pub confidence: f64,
    /// One for each `char` of `text`, in order.
    pub characters: Vec<Character>,
}

/// A character of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Character {
    pub value: char,
    /// 0..1.
    pub probability: f64,
    /// Where along the line it was seen, as shares of the quadrilateral's length. The model looks at more than this: the middle
    /// is good to about half a character, the ends are not the character's own.
    pub along: [f64; 2],
}

/// Reads all characters that the model knows.
#[derive(Clone)]
pub struct TextRecogniser {
    port: ModelPort,
}

impl TextRecogniser {
    pub fn new(port: ModelPort) -> Self {
        Self { port }
    }

    /// Reads the line in a quadrilateral of the picture. One that is not convex or has no area holds no characters.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn read(&self, image: &Image, quad: &Quad, context: &Arc<RequestContext>) -> Result<Line, Error> {
        let Some((input, content)) = prepared(image, quad, &self.port) else { return Ok(Line::default()) };
        let frame_share = FrameShare::new(&input, content);
        let outputs = self.port.model.run(input, context)?;
        let (code_points, probabilities) = (output(&outputs, "characters")?, output(&outputs, "probabilities")?);
        if code_points.data.len() != probabilities.data.len() {
            return Err(Error::internal("the text recogniser's outputs differ in length"));
        }
        let mut characters = Vec::new();
        for run in runs(&code_points.data) {
            // The blank is 0; code points are whole numbers that f32 holds exactly.
            let code_point = code_points.data[run.start] as u32;
            if code_point == 0 {
                continue;
            }
            let value = char::from_u32(code_point)
                .ok_or_else(|| Error::internal(format!("the text recogniser gave the code point {code_point}")))?;
            let best = probabilities.data[run.clone()].iter().copied().fold(0.0, f32::max);
            let along = frame_share.of(&run, code_points.data.len());
            characters.push(Character { value, probability: f64::from(best.min(1.0)), along });
        }
        let sum: f64 = characters.iter().map(|character| character.probability).sum();
        let confidence = sum / characters.len().max(1) as f64;
        Ok(Line { text: characters.iter().map(|character| character.value).collect(), confidence, characters })
    }
}

/// Ranges of equal neighbours.
fn runs<T: PartialEq>(values: &[T]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    values.chunk_by(|a, b| a == b).map(move |run| {
        let range = start..start + run.len();
        start = range.end;
        range
    })
}

/// Turns frames into shares of the line's length.
struct FrameShare {
    input_px: f64,
    content_px: f64,
}

impl FrameShare {
    fn new(input: &Tensor, content_px: usize) -> Self {
        Self { input_px: input.shape.last().copied().unwrap_or(0) as f64, content_px: content_px as f64 }
    }

    fn of(&self, run: &Range<usize>, frames: usize) -> [f64; 2] {
        let share = |frame: usize| frame as f64 / frames as f64 * self.input_px / self.content_px;
        [share(run.start), share(run.end)].map(|share| share.min(1.0))
    }
}

/// The line cut out, brought to the height that the model wants and padded on the right, `[3, height, width]`, with the width of
/// its content. `None` if the quadrilateral is not convex, has no area, or is not finite.
fn prepared(image: &Image, quad: &Quad, port: &ModelPort) -> Option<(Tensor, usize)> {
    let height = port.input.size[1] as usize;
    let [along, across] = quad_size(quad);
    // The cast turns what is not a number into 0, and what is too large into the bound.
    let content = ((along / across * height as f64 * SQUEEZE).round() as usize).clamp(height / 4, MAX_CONTENT_PX);
    let map = Perspective::from_rectangle([content as f64, height as f64], quad)?;
    if image.width == 0 || image.height == 0 {
        return None;
    }
    let crop = warp(image, &map.in_pixel_centres(), [content as u32, height as u32], Sampling::Area);
    let tensor = to_tensor(&crop, &port.input);
    let width = content.max(MIN_WIDTH_PX).next_multiple_of(WIDTH_MULTIPLE_PX);
    // The network was trained with zeros after the normalisation.
    let mut padded = vec![0.0; 3 * height * width];
    for (target, row) in padded.chunks_exact_mut(width).zip(tensor.data.chunks_exact(content)) {
        target[..content].copy_from_slice(row);
    }
    Some((Tensor { shape: vec![3, height, width], data: padded }, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::ocr::fake::port;
    use crate::inference::Outputs;
    use crate::models::manifest::Role;

    fn named(name: &str, shape: &[usize], data: Vec<f32>) -> (Arc<str>, Tensor) {
        (name.into(), Tensor { shape: shape.into(), data })
    }

    fn text_outputs(frames: &[(char, f32)]) -> Outputs {
        let code = |&(character, _): &(char, f32)| if character == '_' { 0.0 } else { u32::from(character) as f32 };
        vec![
            named("characters", &[frames.len()], frames.iter().map(code).collect()),
            named("probabilities", &[frames.len()], frames.iter().map(|frame| frame.1).collect()),
        ]
    }

    const LINE: Quad = [[10.0, 10.0], [260.0, 10.0], [260.0, 34.0], [10.0, 34.0]];

    fn picture() -> Image {
        Image::build(300, 60, |rgb| rgb.fill(255))
    }

    #[test]
    fn equal_neighbours_count_once_and_blanks_divide() {
        // 250 × 24 becomes 500 × 48, squeezed to 400 and padded to the next multiple of 32.
        let frames = [('_', 0.9), ('l', 0.5), ('l', 0.7), ('_', 0.8), ('l', 0.9), ('é', 0.6), ('😀', 1.0), ('_', 0.9)];
        let reader = TextRecogniser::new(port(Role::TextRecogniser, [3, 48, 416], text_outputs(&frames)));
        let line = reader.read(&picture(), &LINE, &Arc::default()).unwrap();
        assert_eq!(line.text, "llé😀");
        let probabilities: Vec<f32> = line.characters.iter().map(|character| character.probability as f32).collect();
        assert_eq!(probabilities, [0.7, 0.9, 0.6, 1.0]);
        assert!((line.confidence - 0.8).abs() < 1e-6);
        // Frames of 52 pixels of an input whose content is 400.
        assert_eq!(line.characters[0].along, [0.13, 0.39]);
        assert_eq!(line.characters[3].along, [0.78, 0.91], "the padding holds no place of the line");
    }

    #[test]
    fn a_line_without_characters_is_no_error() {
        let reader = TextRecogniser::new(port(Role::TextRecogniser, [3, 48, 416], text_outputs(&[('_', 1.0); 8])));
        assert_eq!(reader.read(&picture(), &LINE, &Arc::default()).unwrap(), Line::default());
        let hopeless = [[[5.0, 5.0]; 4], [[f64::NAN; 2]; 4], [[0.0, 0.0], [9.0, 9.0], [9.0, 0.0], [0.0, 9.0]]];
        for quad in hopeless {
            assert_eq!(reader.read(&picture(), &quad, &Arc::default()).unwrap(), Line::default());
        }
    }

    #[test]
    fn the_width_of_the_input_follows_the_line_within_bounds() {
        let cases = [(24.0, 24.0, 64), (300.0, 24.0, 480), (1e7, 10.0, 3200), (3.0, 1e6, 64)];
        for (along, across, width) in cases {
            let quad = [[0.0, 0.0], [along, 0.0], [along, across], [0.0, across]];
            let reader = TextRecogniser::new(port(Role::TextRecogniser, [3, 48, width], text_outputs(&[('a', 1.0)])));
            assert_eq!(reader.read(&picture(), &quad, &Arc::default()).unwrap().text, "a", "{along} × {across}");
        }
    }

    #[test]
    fn a_turned_line_is_cut_upright_and_padded_with_zeros() {
        // The left half of the line is red, and the line runs downwards.
        let picture = Image::build(60, 300, |rgb| {
            for (at, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                pixel.copy_from_slice(if at / 60 < 135 { &[255, 0, 0] } else { &[0, 0, 255] });
            }
        });
        let port = port(Role::TextRecogniser, [3, 48, 416], Vec::new());
        let quad = [[34.0, 10.0], [34.0, 260.0], [10.0, 260.0], [10.0, 10.0]];
        let (input, content) = prepared(&picture, &quad, &port).unwrap();
        assert_eq!((content, input.shape.as_slice()), (400, [3, 48, 416].as_slice()));
        let at = |channel: usize, x: usize| input.data[(channel * 48 + 20) * 416 + x];
        // Blue comes first.
        for (x, expected) in [(10, [-1.0, -1.0, 1.0]), (390, [1.0, -1.0, -1.0]), (401, [0.0; 3]), (415, [0.0; 3])] {
            for (channel, expected) in expected.into_iter().enumerate() {
                assert!((at(channel, x) - expected).abs() < 1e-4, "{x} {channel}: {}", at(channel, x));
            }
        }
    }

    #[test]
    fn outputs_of_another_make_are_our_fault() {
        let refused = |outputs: Outputs| {
            let text = TextRecogniser::new(port(Role::TextRecogniser, [3, 48, 416], outputs));
            matches!(text.read(&picture(), &LINE, &Arc::default()), Err(Error::Internal { .. }))
        };
        assert!(refused(Vec::new()));
        assert!(refused(vec![named("characters", &[1], vec![65.0]), named("probabilities", &[0], vec![])]));
        // A surrogate is no character.
        assert!(refused(vec![named("characters", &[1], vec![5.7e4]), named("probabilities", &[1], vec![0.5])]));
    }
}
