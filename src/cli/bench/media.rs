//! What is sent: the pictures, the requests that they make, and in which order requests of a mix follow each other.
//!
//! Called by `vouch bench`. Each request is made once and sent many times; a copy shares the bytes of its pictures.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::api::proto::{self, Media, MediaKind, VerifyRequest};
use crate::cli::connect::{Failure, read_picture};
use crate::imaging::Image;
use crate::imaging::decode::{DecodeOptions, Decoded, decode};
use crate::specimen::document::{Kind, MAX_DPI, Options, specimen};
use crate::specimen::photograph::{Shot, photograph};

/// The passport that is drawn where none is given: of those that the first numbers give, one that lies upright and whole in its photograph
/// and is valid for long.
const SPECIMEN_SEED: u64 = 24;

/// What a telephone's camera gives: 12 megapixels, with the faults of an ordinary photograph.
const SPECIMEN_PX: [u32; 2] = [4000, 3000];
const SPECIMEN_LEVEL: u8 = 2;

/// Height of the face, chin to forehead, by that of a passport photograph (ICAO Doc 9303 part 3 asks for 70 to 80 % from chin to crown).
const FACE_SHARE: f64 = 0.6;

/// Width by height of a passport photograph, 35 × 45 mm.
const PHOTO_ASPECT: f64 = 35.0 / 45.0;

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Selfie and reference portrait: face quality, passive liveness, face match, age
    Selfie,
    /// Document alone: every check of documents
    Document,
    /// Document and selfie: every check
    Full,
    /// The three of them, by weight
    Mixed,
}

/// The parts of a mix, in the order of their weights.
const PARTS: [&str; 3] = ["selfie", "document", "full"];

/// How often each of [`PARTS`] comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights([u32; 3]);

impl Default for Weights {
    /// Most people come back with a selfie; some send a document, first alone or with one.
    fn default() -> Self {
        Self([6, 3, 1])
    }
}

/// Largest weight: a longer cycle would not end within a step.
const MAX_WEIGHT: u32 = 1000;

impl Weights {
    /// Of a scenario: one part alone, or the mix.
    pub fn of(scenario: Scenario, mix: Option<Self>) -> Self {
        match scenario {
            Scenario::Selfie => Self([1, 0, 0]),
            Scenario::Document => Self([0, 1, 0]),
            Scenario::Full => Self([0, 0, 1]),
            Scenario::Mixed => mix.unwrap_or_default(),
        }
    }

    /// `selfie=6,document=3,full=1`; what is left out has no weight.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut weights = [0; 3];
        for entry in text.split(',') {
            let (name, weight) = entry.split_once('=').ok_or("expected PART=WEIGHT, such as selfie=6")?;
            let place = PARTS
                .iter()
                .position(|part| *part == name)
                .ok_or_else(|| format!("no part is called {name}; there are {}", PARTS.join(", ")))?;
            let weight: Option<u32> = weight.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
            weights[place] = weight.ok_or_else(|| format!("a weight is a whole number from 0 to {MAX_WEIGHT}"))?;
        }
        if weights == [0; 3] { Err("all weights are 0".into()) } else { Ok(Self(weights)) }
    }

    fn has(self, part: usize) -> bool {
        self.0[part] > 0
    }
}

/// The pictures to send.
#[derive(Debug, Args)]
pub struct MediaArgs {
    /// The live capture: the whole camera frame
    #[arg(long, value_name = "IMAGE")]
    selfie: Option<PathBuf>,
    /// An earlier photograph of the same person
    #[arg(long, value_name = "IMAGE")]
    reference: Option<PathBuf>,
    /// The document's front [default: a drawn passport as a photograph of 12 megapixels, with the face of --reference or --selfie]
    #[arg(long, value_name = "IMAGE")]
    document: Option<PathBuf>,
}

/// A picture as it is sent.
#[derive(Debug, Clone)]
pub struct Picture {
    kind: MediaKind,
    pub data: Bytes,
    /// Absent if it was drawn.
    pub path: Option<PathBuf>,
}

/// Facts of a picture for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PictureFacts {
    pub kind: &'static str,
    pub bytes: usize,
    pub sha256: String,
    /// By this command, since none was given.
    pub drawn: bool,
}

/// Requests of one kind.
#[derive(Debug, Clone)]
pub struct Part {
    pub name: &'static str,
    pub weight: u32,
    pub request: VerifyRequest,
    /// Which file went into which field, to name it in errors.
    pub files: Vec<(String, PathBuf)>,
}

/// The pictures that a scenario needs.
#[derive(Debug, Clone)]
pub struct Pictures {
    weights: Weights,
    selfie: Option<Picture>,
    reference: Option<Picture>,
    document: Option<Picture>,
}

impl Pictures {
    /// Reads what is given and needed.
    ///
    /// # Errors
    /// [`Failure::Usage`] if a picture is missing that cannot be drawn; what [`read_picture`] says.
    pub fn read(args: &MediaArgs, scenario: Scenario, mix: Option<Weights>) -> Result<Self, Failure> {
        let weights = Weights::of(scenario, mix);
        let [of_selfie, of_document, of_full] = [0, 1, 2].map(|part| weights.has(part));
        let mut missing = Vec::new();
        if (of_selfie || of_full) && args.selfie.is_none() {
            missing.push("--selfie FILE");
        }
        if of_selfie && args.reference.is_none() {
            missing.push("--reference FILE");
        }
        if !missing.is_empty() {
            let scenario = scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
            return Err(Failure::Usage(format!("{scenario} sends faces: give {}", missing.join(" and "))));
        }
        let read = |kind, path: &Option<PathBuf>| -> Result<Option<Picture>, Failure> {
            let Some(path) = path else { return Ok(None) };
            Ok(Some(Picture { kind, data: read_picture(path)?, path: Some(path.clone()) }))
        };
        let draws = (of_document || of_full) && args.document.is_none();
        // A document that is drawn takes its face from them, even where they are not sent.
        let is_used = |needed: bool, path: &Option<PathBuf>| path.clone().filter(|_| needed || draws);
        Ok(Self {
            weights,
            selfie: read(MediaKind::Selfie, &is_used(of_selfie || of_full, &args.selfie))?,
            reference: read(MediaKind::Reference, &is_used(of_selfie, &args.reference))?,
            document: read(MediaKind::DocumentFront, &args.document.clone().filter(|_| of_document || of_full))?,
        })
    }

    /// Whether a document is needed and none was given.
    pub fn lacks_document(&self) -> bool {
        (self.weights.has(1) || self.weights.has(2)) && self.document.is_none()
    }

    /// The picture with the face that a drawn document is to show: the reference, or else the selfie, if there is any.
    pub fn face(&self) -> Option<&Picture> {
        self.reference.as_ref().or(self.selfie.as_ref())
    }

    /// Draws a passport, with the person of [`face`](Self::face) on its portrait. `place` is where the face is found there, in pixels of the
    /// upright picture; without it the middle of the picture is taken. Takes seconds.
    ///
    /// # Errors
    /// [`Failure::BadInput`] if that picture cannot be decoded.
    pub fn draw_document(&mut self, place: Option<&proto::Box>) -> Result<(), Failure> {
        let portrait = match self.face() {
            None => None,
            Some(picture) => {
                let name = picture.path.as_deref().unwrap_or(Path::new("the picture")).display();
                let decoded = decode(&picture.data, &DecodeOptions::default())
                    .map_err(|error| Failure::BadInput(format!("{name}: {error}")))?;
                Some(place.map_or_else(|| decoded.image.clone(), |place| passport_photo(&decoded, place)))
            }
        };
        let options = Options { portrait, dpi: MAX_DPI };
        let made = specimen(Kind::Td3, SPECIMEN_SEED, &options);
        let page = made.pages.first().expect("a passport has a page");
        let shot = Shot { seed: SPECIMEN_SEED, level: SPECIMEN_LEVEL, size_px: SPECIMEN_PX };
        let data = photograph(page, &shot).jpeg.into();
        self.document = Some(Picture { kind: MediaKind::DocumentFront, data, path: None });
        Ok(())
    }

    /// The requests, one for each part that has a weight.
    pub fn parts(&self) -> Vec<Part> {
        let Self { selfie, reference, document, .. } = self;
        let sent: [Vec<&Picture>; 3] = [
            selfie.iter().chain(reference).collect(),
            document.iter().collect(),
            document.iter().chain(selfie).collect(),
        ];
        let parts = PARTS.iter().zip(self.weights.0).zip(sent).filter(|((_, weight), _)| *weight > 0);
        parts
            .map(|((name, weight), pictures)| {
                let files = (0..).zip(&pictures).filter_map(|(place, picture): (usize, &&Picture)| {
                    Some((format!("media[{place}].data"), picture.path.clone()?))
                });
                let files = files.collect();
                let media =
                    pictures.iter().map(|picture| Media { kind: picture.kind.into(), data: picture.data.clone() });
                let request = VerifyRequest { media: media.collect(), ..VerifyRequest::default() };
                Part { name, weight, request, files }
            })
            .collect()
    }

    /// Facts of the pictures that are sent.
    pub fn facts(&self) -> Vec<PictureFacts> {
        let is_sent = [
            self.weights.has(0) || self.weights.has(2),
            self.weights.has(0),
            self.weights.has(1) || self.weights.has(2),
        ];
        let pictures = [&self.selfie, &self.reference, &self.document].into_iter().zip(is_sent);
        let sent = pictures.filter_map(|(picture, is_sent)| picture.as_ref().filter(|_| is_sent));
        sent.map(|picture| PictureFacts {
            kind: match picture.kind {
                MediaKind::Selfie => "selfie",
                MediaKind::Reference => "reference",
                _ => "document",
            },
            bytes: picture.data.len(),
            sha256: Sha256::digest(&picture.data).iter().map(|byte| format!("{byte:02x}")).collect(),
            drawn: picture.path.is_none(),
        })
        .collect()
    }
}

/// The part of a picture around a face that a passport photograph shows, as far as the picture reaches.
fn passport_photo(picture: &Decoded, face: &proto::Box) -> Image {
    let image = &picture.image;
    let [width, height] = [image.width, image.height].map(f64::from);
    let [x, y, face_width, face_height] = [face.x, face.y, face.width, face.height].map(|value| value * picture.scale);
    let photo_height = (face_height / FACE_SHARE).min(height).min(width / PHOTO_ASPECT).max(1.0);
    let photo_width = photo_height * PHOTO_ASPECT;
    let corner = |centre: f64, side: f64, end: f64| (centre - side / 2.0).clamp(0.0, (end - side).max(0.0)) as u32;
    let left = corner(x + face_width / 2.0, photo_width, width);
    let top = corner(y + face_height / 2.0, photo_height, height);
    // Whole pixels, at least one, within the picture.
    let side = |side: f64, start: u32, end: u32| (side as u32).clamp(1, end - start);
    image.part([left, top], [side(photo_width, left, image.width), side(photo_height, top, image.height)])
}

/// One cycle of a mix: indices of parts, each as often as it weighs and as evenly spread as can be (the smooth weighted round robin of
/// nginx). The order is always the same, so that two runs send the same.
pub fn cycle(weights: &[u32]) -> Vec<usize> {
    let total: i64 = weights.iter().copied().map(i64::from).sum();
    let mut credit = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            credit.iter_mut().zip(weights).for_each(|(credit, weight)| *credit += i64::from(*weight));
            // Of equals the first.
            let next = (0..credit.len()).rev().max_by_key(|part| credit[*part]).unwrap_or(0);
            credit[next] -= total;
            next
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_or_refused() {
        assert_eq!(Weights::parse("selfie=6,document=3,full=1"), Ok(Weights::default()));
        assert_eq!(Weights::parse("full=2"), Ok(Weights([0, 0, 2])));
        for wrong in ["", "selfie", "selfie=", "selfie=-1", "face=1", "selfie=0", "selfie=1,", "full=1001"] {
            assert!(Weights::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cycle_has_every_part_as_often_as_it_weighs_and_spread() {
        let order = cycle(&[6, 3, 1]);
        let count = |part| order.iter().filter(|other| **other == part).count();
        assert_eq!([count(0), count(1), count(2)], [6, 3, 1]);
        // No three in a row of the second, no four of the first.
        assert!(order.windows(4).all(|four| four.contains(&1) || four.contains(&2)), "{order:?}");
        assert_eq!(cycle(&[1]), [0]);
        assert_eq!(cycle(&[1, 1]), [0, 1]);
    }

    #[test]
    fn a_passport_photograph_lies_around_the_face_and_within_the_picture() {
        let image = Image::build(400, 600, |_| {});
        let format = crate::imaging::decode::Format::Jpeg;
        let orientation = crate::imaging::orient::Orientation::default();
        // Decoded at half its size.
        let picture = Decoded { image, source_width: 800, source_height: 1200, scale: 0.5, format, orientation };
        let part = |x, y, height| passport_photo(&picture, &proto::Box { x, y, width: height * 0.8, height });
        let photo = part(300.0, 400.0, 120.0);
        assert_eq!([photo.width, photo.height], [77, 100]);
        for (x, y, height) in [(-20.0, -30.0, 120.0), (760.0, 1190.0, 120.0), (0.0, 0.0, 5000.0), (5.0, 5.0, 0.0)] {
            let photo = part(x, y, height);
            assert!(photo.width >= 1 && photo.width <= 400 && photo.height >= 1 && photo.height <= 600);
        }
    }

    fn args(selfie: Option<&Path>, reference: Option<&Path>, document: Option<&Path>) -> MediaArgs {
        let owned = |path: Option<&Path>| path.map(Path::to_owned);
        MediaArgs { selfie: owned(selfie), reference: owned(reference), document: owned(document) }
    }

    #[test]
    fn what_is_missing_is_asked_for_and_what_is_not_needed_is_not_sent() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "picture").unwrap();
        let path = Some(file.path());
        let read = |args: &MediaArgs, scenario| Pictures::read(args, scenario, None);
        for (scenario, words) in [
            (Scenario::Selfie, "selfie sends faces: give --selfie FILE and --reference FILE"),
            (Scenario::Full, "full sends faces: give --selfie FILE"),
            (Scenario::Mixed, "give --selfie FILE and --reference FILE"),
        ] {
            let failure = read(&args(None, None, None), scenario).unwrap_err();
            assert!(failure.exit_code() == 64 && failure.to_string().contains(words), "{failure}");
        }
        let document = read(&args(path, path, path), Scenario::Document).unwrap();
        let parts = document.parts();
        assert_eq!((parts.len(), parts[0].name, parts[0].request.media.len()), (1, "document", 1));
        assert_eq!(document.facts().iter().map(|facts| facts.kind).collect::<Vec<_>>(), ["document"]);

        let mixed = read(&args(path, path, path), Scenario::Mixed).unwrap();
        let kinds = |part: &Part| part.request.media.iter().map(Media::kind).collect::<Vec<_>>();
        let parts: Vec<_> = mixed.parts().iter().map(|part| (part.name, part.weight, kinds(part))).collect();
        assert_eq!(parts[0], ("selfie", 6, vec![MediaKind::Selfie, MediaKind::Reference]));
        assert_eq!(parts[2], ("full", 1, vec![MediaKind::DocumentFront, MediaKind::Selfie]));
        assert!(!mixed.lacks_document());
        assert!(read(&args(path, path, None), Scenario::Mixed).unwrap().lacks_document());
    }
}
