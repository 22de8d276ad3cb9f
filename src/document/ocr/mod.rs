//! Lines of text: where they are ([`TextDetector`]) and what they say ([`TextRecogniser`], [`MrzRecogniser`]).
//!
//! Called by the readers of documents, which choose the lines that they need: finding is one model run for a picture, reading is
//! one run for a line. The models for any text are PP-OCRv6 (PaddleOCR), that for zones is our own (`models/mrz`). Left out: joining
//! lines to blocks, and what a line means.
//!
//! All coordinates are *pixel areas* (pixel `i` covers `i..i + 1`) of the picture handed in, origin at its top left corner.

mod ctc;
mod detect;
mod mrz_line;
mod recognise;
pub mod strip;

pub use detect::{MAX_LINES, TextDetector};
pub use mrz_line::{MRZ_CHARACTERS, MrzLine, MrzRecogniser, Position};
pub use recognise::{Character, Line, TextRecogniser};

/// Corners clockwise from the top left corner of the text: the text runs from the first to the second, its feet are at the
/// fourth and third. Corners may lie outside the picture.
pub type Quad = [[f64; 2]; 4];

/// Height of the capital letters as a share of that of a found line. Of 130 printed lines of zones 123 were read without an error with
/// 0.50 to 0.56, 120 with 0.7 and 67 with 0.85.
const CAPITALS: f64 = 0.55;

/// A line of text that was found but not read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextLine {
    /// A rectangle, turned as the text is. A picture does not show the detector which way up the text stands: a line counts as
    /// running to the right, or downwards if it is steeper than 45°, until [`turned`](Self::turned).
    pub quad: Quad,
    /// How much of the rectangle the detector holds for text, 0..1.
    pub score: f64,
}

impl TextLine {
    /// The same line read from the other end, upside down.
    pub fn turned(&self) -> Self {
        let [a, b, c, d] = self.quad;
        Self { quad: [c, d, a, b], score: self.score }
    }

    /// A line whose [`capitals`](Self::capitals) are these.
    pub fn of_capitals(quad: Quad, score: f64) -> Self {
        let by = (1.0 / CAPITALS - 1.0) / 2.0;
        let beyond = |a: [f64; 2], b: [f64; 2]| [a[0] + (a[0] - b[0]) * by, a[1] + (a[1] - b[1]) * by];
        let [a, b, c, d] = quad;
        Self { quad: [beyond(a, d), beyond(b, c), beyond(c, b), beyond(d, a)], score }
    }

    /// The part from the top of the capital letters to the baseline: the rectangle is higher than the print.
    pub fn capitals(&self) -> Quad {
        let by = (1.0 - CAPITALS) / 2.0;
        let between = |a: [f64; 2], b: [f64; 2]| [a[0] + (b[0] - a[0]) * by, a[1] + (b[1] - a[1]) * by];
        let [a, b, c, d] = self.quad;
        [between(a, d), between(b, c), between(c, b), between(d, a)]
    }

    /// Along the text and across it, in pixels.
    pub fn size(&self) -> [f64; 2] {
        quad_size(&self.quad)
    }
}

/// Mean lengths of the two sides along the text and of the two across it.
pub(super) fn quad_size(quad: &Quad) -> [f64; 2] {
    let side = |from: usize, to: usize| (quad[to][0] - quad[from][0]).hypot(quad[to][1] - quad[from][1]);
    [(side(0, 1) + side(3, 2)) / 2.0, (side(0, 3) + side(1, 2)) / 2.0]
}

/// True for points inside of a convex quadrilateral whose corners run clockwise.
pub fn is_inside([x, y]: [f64; 2], quad: &Quad) -> bool {
    (0..4).all(|corner| {
        let ([ax, ay], [bx, by]) = (quad[corner], quad[(corner + 1) % 4]);
        (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0.0
    })
}

/// A model for the tests of the recognisers and of the page locator.
#[cfg(test)]
pub(super) mod fake {
    use std::sync::Arc;

    use crate::error::Error;
    use crate::inference::{Model, ModelPort, Outputs, RequestContext, Tensor};
    use crate::models::manifest::{Manifest, Role};

    /// Gives fixed outputs and checks the shape of the input.
    struct Fake {
        outputs: Outputs,
        shape: [usize; 3],
    }

    impl Model for Fake {
        fn run(&self, input: Tensor, _: &Arc<RequestContext>) -> Result<Outputs, Error> {
            assert_eq!(input.shape, self.shape);
            Ok(self.outputs.clone())
        }
    }

    /// The fake in a role, with the input that the shipped manifest states for it.
    pub fn port(role: Role, shape: [usize; 3], outputs: Outputs) -> ModelPort {
        let input = Manifest::shipped().unwrap().entry(role).unwrap().input.clone();
        ModelPort { model: Arc::new(Fake { outputs, shape }), input }
    }
}
