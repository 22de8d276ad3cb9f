//! Resizing to a given size, and fitting into a detector's input.
//!
//! Called by `face` for detector inputs. Making smaller averages areas with a box filter (the same as OpenCV's INTER_AREA for
//! whole ratios; at others a pixel belongs to a box or not, without fractional weights), making larger is bilinear. Crops that
//! are turned or cut out go through `warp`.

use std::sync::Arc;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::Image;

/// A picture that was fitted into a canvas.
#[derive(Debug, Clone)]
pub struct Letterbox {
    /// The picture at the top left corner, black to the right of it and below.
    pub canvas: Image,
    /// Size of the picture on the canvas.
    pub content_width: u32,
    pub content_height: u32,
    /// Canvas pixels per picture pixel. The two differ slightly because the content has whole pixels.
    pub scale_x: f64,
    pub scale_y: f64,
}

impl Letterbox {
    /// Brings a point of the canvas back to the picture, both in pixel areas.
    pub fn to_picture(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [x / self.scale_x, y / self.scale_y]
    }
}

/// Resizes to exactly `width × height` pixels, the aspect ratio not kept.
///
/// # Panics
/// If a side of the picture or of the result is 0.
pub fn resize(image: &Image, width: u32, height: u32) -> Image {
    assert!(image.width > 0 && image.height > 0 && width > 0 && height > 0, "resizing from or to nothing");
    if (width, height) == (image.width, image.height) {
        return Image { width, height, rgb: Arc::clone(&image.rgb) };
    }
    let shrinks = width <= image.width && height <= image.height;
    // The triangle of `Bilinear` widens where one side shrinks while the other grows, so that case does not alias either.
    let filter = if shrinks { FilterType::Box } else { FilterType::Bilinear };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    Image::build(width, height, |rgb| {
        // For this kind of pixel alone: the library's other kinds would be compiled into the program, code that differs from build to build among them.
        let source = TypedImageRef::<U8x3>::from_buffer(image.width, image.height, &image.rgb)
            .expect("an Image has width × height × 3 bytes");
        let mut target =
            TypedImage::<U8x3>::from_buffer(width, height, rgb).expect("the buffer was made for this size");
        Resizer::new().resize_typed(&source, &mut target, &options).expect("the crop is the whole picture");
    })
}

/// Resizes, keeping the aspect ratio, so that the longer side has `long_side_px` pixels, and puts the result on a black canvas
/// whose sides are the next multiples of `canvas_multiple_px`. A multiple that is coarser than a network needs keeps the number
/// of different canvas shapes small.
///
/// # Panics
/// If a side of the picture, `long_side_px` or `canvas_multiple_px` is 0.
pub fn letterbox(image: &Image, long_side_px: u32, canvas_multiple_px: u32) -> Letterbox {
    let factor = f64::from(long_side_px) / f64::from(image.width.max(image.height));
    let scaled = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
    let (content_width, content_height) = (scaled(image.width), scaled(image.height));
    let content = resize(image, content_width, content_height);
    let (width, height) =
        (content_width.next_multiple_of(canvas_multiple_px), content_height.next_multiple_of(canvas_multiple_px));
    let canvas = if (width, height) == (content_width, content_height) {
        content
    } else {
        Image::build(width, height, |rgb| {
            let rows = content.rgb.chunks_exact(content_width as usize * 3);
            for (row, target) in rows.zip(rgb.chunks_exact_mut(width as usize * 3)) {
                target[..row.len()].copy_from_slice(row);
            }
        })
    };
    Letterbox {
        canvas,
        content_width,
        content_height,
        scale_x: f64::from(content_width) / f64::from(image.width),
        scale_y: f64::from(content_height) / f64::from(image.height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: u32, height: u32) -> Image {
        let mut state = 1u32;
        Image::build(width, height, |rgb| {
            for byte in rgb {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
        })
    }

    #[test]
    fn shrinking_averages_areas() {
        let image = noise(60, 44);
        let small = resize(&image, 15, 11);
        for y in 0..11 {
            for x in 0..15 {
                for channel in 0..3 {
                    let sum: u32 = (0..16).map(|i| u32::from(image.pixel(x * 4 + i % 4, y * 4 + i / 4)[channel])).sum();
                    let mean = f64::from(sum) / 16.0;
                    assert!((f64::from(small.pixel(x, y)[channel]) - mean).abs() <= 1.0, "{x},{y}");
                }
            }
        }
    }

    #[test]
    fn enlarging_interpolates_between_pixels() {
        let image = Image::build(2, 1, |rgb| rgb.copy_from_slice(&[0, 0, 0, 200, 100, 40]));
        let large = resize(&image, 8, 1);
        let reds: Vec<u8> = (0..8).map(|x| large.pixel(x, 0)[0]).collect();
        assert_eq!(reds, [0, 0, 25, 75, 125, 175, 200, 200]);
    }

    #[test]
    fn resizing_to_the_same_size_shares_the_pixels() {
        let image = noise(5, 4);
        assert!(Arc::ptr_eq(&image.rgb, &resize(&image, 5, 4).rgb));
    }

    #[test]
    fn a_letterbox_keeps_the_picture_at_the_corner_and_points_come_back() {
        let image = noise(400, 300);
        let boxed = letterbox(&image, 320, 32);
        assert_eq!((boxed.content_width, boxed.content_height), (320, 240));
        assert_eq!((boxed.canvas.width, boxed.canvas.height), (320, 256));
        assert_eq!(boxed.canvas.pixel(319, 240), [0, 0, 0]);
        let content = resize(&image, 320, 240);
        assert_eq!(boxed.canvas.pixel(100, 239), content.pixel(100, 239));
        assert_eq!(boxed.to_picture([320.0, 240.0]), [400.0, 300.0]);
    }

    #[test]
    fn a_thin_picture_keeps_at_least_one_row() {
        let boxed = letterbox(&noise(3000, 1), 640, 32);
        assert_eq!((boxed.content_width, boxed.content_height), (640, 1));
        assert_eq!((boxed.canvas.width, boxed.canvas.height), (640, 32));
    }
}
