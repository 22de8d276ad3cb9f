//! Turning and mirroring of pictures.
//!
//! `decode` applies the EXIF orientation, `pipeline` turns a picture in which no upright face was found. Reading the tag is
//! forgiving: a damaged EXIF block is treated as absent, because the picture beside it is usually fine. Arbitrary angles are
//! `warp`'s work. Source: CIPA DC-008 (Exif 2.32), tag 0x0112.

use std::io::Cursor;

use serde::{Deserialize, Serialize};

use super::Image;

/// The eight ways in which stored pixels can relate to the upright picture; the numbers are those of the EXIF tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum Orientation {
    /// Stored upright.
    #[default]
    Upright = 1,
    /// Stored mirrored left to right.
    FlipHorizontal = 2,
    /// Stored upside down.
    Rotate180 = 3,
    /// Stored mirrored top to bottom.
    FlipVertical = 4,
    /// Stored mirrored along the main diagonal.
    Transpose = 5,
    /// Has to be turned 90° clockwise to stand upright.
    Rotate90 = 6,
    /// Stored mirrored along the other diagonal.
    Transverse = 7,
    /// Has to be turned 270° clockwise to stand upright.
    Rotate270 = 8,
}

impl Orientation {
    /// All eight in the order of their EXIF numbers.
    pub const ALL: [Self; 8] = [
        Self::Upright,
        Self::FlipHorizontal,
        Self::Rotate180,
        Self::FlipVertical,
        Self::Transpose,
        Self::Rotate90,
        Self::Transverse,
        Self::Rotate270,
    ];

    /// The orientation of an EXIF number. `None` for numbers outside 1..=8.
    pub fn from_exif(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|orientation| *orientation as u32 == number)
    }

    /// True if applying it swaps width and height.
    pub fn swaps_sides(self) -> bool {
        self as u8 >= 5
    }
}

/// How far a picture is turned clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    #[default]
    R0,
    R90,
    R180,
    R270,
}

impl Rotation {
    /// All four, by angle.
    pub const ALL: [Self; 4] = [Self::R0, Self::R90, Self::R180, Self::R270];

    /// Degrees clockwise.
    pub fn degrees(self) -> u32 {
        match self {
            Self::R0 => 0,
            Self::R90 => 90,
            Self::R180 => 180,
            Self::R270 => 270,
        }
    }

    /// The rotation that undoes this one.
    pub fn inverse(self) -> Self {
        match self {
            Self::R0 => Self::R0,
            Self::R90 => Self::R270,
            Self::R180 => Self::R180,
            Self::R270 => Self::R90,
        }
    }

    /// Where a point of a `width × height` picture lies after the picture was turned, both in pixel areas (the corners of
    /// the picture map to corners).
    pub fn apply_to_point(self, [x, y]: [f64; 2], width: u32, height: u32) -> [f64; 2] {
        let (width, height) = (f64::from(width), f64::from(height));
        match self {
            Self::R0 => [x, y],
            Self::R90 => [height - y, x],
            Self::R180 => [width - x, height - y],
            Self::R270 => [y, width - x],
        }
    }
}

impl From<Rotation> for Orientation {
    fn from(rotation: Rotation) -> Self {
        match rotation {
            Rotation::R0 => Self::Upright,
            Rotation::R90 => Self::Rotate90,
            Rotation::R180 => Self::Rotate180,
            Rotation::R270 => Self::Rotate270,
        }
    }
}

/// Reads the EXIF orientation of a JPEG, PNG or WebP file. Absent, damaged and impossible values mean upright.
pub fn exif_orientation(file: &[u8]) -> Orientation {
    exif::Reader::new()
        .continue_on_error(true)
        .read_from_container(&mut Cursor::new(file))
        .or_else(|error| error.distill_partial_result(|_| ()))
        .ok()
        .and_then(|exif| exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY)?.value.get_uint(0))
        .and_then(Orientation::from_exif)
        .unwrap_or_default()
}

/// Turns a picture clockwise.
pub fn rotate(image: &Image, rotation: Rotation) -> Image {
    apply(image, rotation.into())
}

/// Makes the upright picture from one stored with `orientation`. An upright picture is shared, not copied.
pub fn apply(image: &Image, orientation: Orientation) -> Image {
    if orientation == Orientation::Upright {
        return image.clone();
    }
    apply_to_pixels(&image.rgb, image.width, image.height, orientation)
}

/// As [`apply`], for stored pixels `[height, width, 3]` that are not in an [`Image`] yet.
pub(super) fn apply_to_pixels(stored: &[u8], width: u32, height: u32, orientation: Orientation) -> Image {
    let (w, h) = (width as usize, height as usize);
    let (out_width, out_height) = if orientation.swaps_sides() { (height, width) } else { (width, height) };
    // Pixel (x, y) of the result is stored at `start + x · dx + y · dy`, counted in pixels.
    let (iw, last_x, last_y) = (w as isize, w as isize - 1, (h as isize - 1) * w as isize);
    let (start, dx, dy) = match orientation {
        Orientation::Upright => (0, 1, iw),
        Orientation::FlipHorizontal => (last_x, -1, iw),
        Orientation::Rotate180 => (last_y + last_x, -1, -iw),
        Orientation::FlipVertical => (last_y, 1, -iw),
        Orientation::Transpose => (0, iw, 1),
        Orientation::Rotate90 => (last_y, -iw, 1),
        Orientation::Transverse => (last_y + last_x, -iw, -1),
        Orientation::Rotate270 => (last_x, iw, -1),
    };
    let (ow, oh) = (out_width as usize, out_height as usize);
    Image::build(out_width, out_height, |out| {
        // Square tiles keep the cache lines of a transposed read in use: 32 rows of 96 bytes fit into the first-level cache.
        const TILE: usize = 32;
        for tile_y in (0..oh).step_by(TILE) {
            for tile_x in (0..ow).step_by(TILE) {
                let tile_end_x = (tile_x + TILE).min(ow);
                for y in tile_y..(tile_y + TILE).min(oh) {
                    let row = &mut out[(y * ow + tile_x) * 3..(y * ow + tile_end_x) * 3];
                    let mut from = start + tile_x as isize * dx + y as isize * dy;
                    for pixel in row.chunks_exact_mut(3) {
                        let at = from as usize * 3;
                        pixel.copy_from_slice(&stored[at..at + 3]);
                        from += dx;
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbered(width: u32, height: u32) -> Image {
        let rgb: Vec<u8> = (0..width * height).flat_map(|i| [i as u8, (i >> 8) as u8, 7]).collect();
        Image { width, height, rgb: rgb.into() }
    }

    #[test]
    fn each_orientation_moves_the_corners_as_the_standard_says() {
        // A 3 × 2 picture with the numbers 0..=5; expected corner order: top left, top right, bottom left, bottom right.
        let image = numbered(3, 2);
        let expected = [
            [0, 2, 3, 5],
            [2, 0, 5, 3],
            [5, 3, 2, 0],
            [3, 5, 0, 2],
            [0, 3, 2, 5],
            [3, 0, 5, 2],
            [5, 2, 3, 0],
            [2, 5, 0, 3],
        ];
        for (orientation, expected) in Orientation::ALL.into_iter().zip(expected) {
            let upright = apply(&image, orientation);
            let (right, bottom) = (upright.width - 1, upright.height - 1);
            let corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)].map(|(x, y)| upright.pixel(x, y)[0]);
            assert_eq!(corners, expected, "{orientation:?}");
        }
    }

    #[test]
    fn upright_pictures_are_shared() {
        let image = numbered(3, 2);
        assert!(std::sync::Arc::ptr_eq(&image.rgb, &rotate(&image, Rotation::R0).rgb));
    }

    #[test]
    fn numbers_outside_the_standard_are_refused() {
        assert_eq!(Orientation::from_exif(0), None);
        assert_eq!(Orientation::from_exif(9), None);
        assert_eq!(Orientation::from_exif(6), Some(Orientation::Rotate90));
    }

    proptest! {
        #[test]
        fn rotations_compose(width in 1u32..80, height in 1u32..80, a in 0usize..4, b in 0usize..4) {
            let image = numbered(width, height);
            let twice = rotate(&rotate(&image, Rotation::ALL[a]), Rotation::ALL[b]);
            let once = rotate(&image, Rotation::ALL[(a + b) % 4]);
            prop_assert_eq!((twice.width, twice.height), (once.width, once.height));
            prop_assert_eq!(&twice.rgb, &once.rgb);
        }

        #[test]
        fn points_follow_their_pixels(width in 1u32..40, height in 1u32..40, x in 0u32..40, y in 0u32..40, a in 0usize..4) {
            let (x, y) = (x % width, y % height);
            let image = numbered(width, height);
            let turned = rotate(&image, Rotation::ALL[a]);
            let centre = [f64::from(x) + 0.5, f64::from(y) + 0.5];
            let moved = Rotation::ALL[a].apply_to_point(centre, width, height);
            prop_assert_eq!(turned.pixel(moved[0] as u32, moved[1] as u32), image.pixel(x, y));
            let back = Rotation::ALL[a].inverse().apply_to_point(moved, turned.width, turned.height);
            prop_assert_eq!(back, centre);
        }

        #[test]
        fn mirrorings_undo_themselves(width in 1u32..80, height in 1u32..80) {
            let image = numbered(width, height);
            for orientation in [2, 3, 4, 5, 7].map(|n| Orientation::from_exif(n).expect("1..=8")) {
                prop_assert_eq!(&apply(&apply(&image, orientation), orientation).rgb, &image.rgb);
            }
        }
    }
}
