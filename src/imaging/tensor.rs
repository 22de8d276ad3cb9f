//! Pixels to the numbers that a model reads.
//!
//! Called by `face` on every crop, with the input description of the model's manifest entry. Resizing is not done here.

use super::Image;
use super::quality::luma;
use crate::inference::Tensor;
use crate::models::manifest::{Colour, InputSpec, Layout};

/// Turns a picture into a tensor: `(value − mean) × scale` per channel, channels in the order of `spec.colour`, shape
/// `[3, height, width]` or `[height, width, 3]` by `spec.layout`, with one channel for grey. `spec.size` is not looked at: the
/// picture's own size counts.
pub fn to_tensor(image: &Image, spec: &InputSpec) -> Tensor {
    let (width, height) = (image.width as usize, image.height as usize);
    let source_channel = match spec.colour {
        Colour::Rgb => [0, 1, 2],
        Colour::Bgr => [2, 1, 0],
        Colour::Grey => return grey_tensor(image, spec),
    };
    // 256 values per channel instead of arithmetic per pixel: the same results, rounded once.
    let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| {
        std::array::from_fn(|value| (value as f32 - spec.mean[channel]) * spec.scale[channel])
    });
    let value = |pixel: &[u8], channel: usize| tables[channel][usize::from(pixel[source_channel[channel]])];
    let mut data = Vec::with_capacity(width * height * 3);
    match spec.layout {
        Layout::Nhwc => {
            // Pixel by pixel into place: an iterator over three values each does not know its length, and checks for room at every one.
            data.resize(width * height * 3, 0.0);
            for (target, pixel) in data.as_chunks_mut::<3>().0.iter_mut().zip(image.rgb.as_chunks::<3>().0) {
                *target = [value(pixel, 0), value(pixel, 1), value(pixel, 2)];
            }
            Tensor { shape: vec![height, width, 3], data }
        }
        Layout::Nchw => {
            for channel in 0..3 {
                data.extend(image.rgb.chunks_exact(3).map(|pixel| value(pixel, channel)));
            }
            Tensor { shape: vec![3, height, width], data }
        }
    }
}

fn grey_tensor(image: &Image, spec: &InputSpec) -> Tensor {
    let (width, height) = (image.width as usize, image.height as usize);
    let value = |luma: u8| (f32::from(luma) - spec.mean[0]) * spec.scale[0];
    let shape = match spec.layout {
        Layout::Nhwc => vec![height, width, 1],
        Layout::Nchw => vec![1, height, width],
    };
    Tensor { shape, data: luma(image).into_iter().map(value).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(layout: Layout, colour: Colour) -> InputSpec {
        InputSpec { name: "input".into(), layout, colour, mean: [1.0, 2.0, 3.0], scale: [1.0, 0.5, 10.0], size: [0, 0] }
    }

    #[test]
    fn layout_colour_mean_and_scale_follow_the_manifest() {
        let image = Image::build(2, 1, |rgb| rgb.copy_from_slice(&[10, 20, 30, 40, 50, 60]));
        let tensor = to_tensor(&image, &spec(Layout::Nchw, Colour::Rgb));
        assert_eq!(tensor.shape, [3, 1, 2]);
        assert_eq!(tensor.data, [9.0, 39.0, 9.0, 24.0, 270.0, 570.0]);
        // Mean and scale stand in the order of the colour: the first ones belong to blue here.
        let tensor = to_tensor(&image, &spec(Layout::Nhwc, Colour::Bgr));
        assert_eq!(tensor.shape, [1, 2, 3]);
        assert_eq!(tensor.data, [29.0, 9.0, 70.0, 59.0, 24.0, 370.0]);
        let tensor = to_tensor(&image, &spec(Layout::Nchw, Colour::Grey));
        assert_eq!((tensor.shape, tensor.data), (vec![1, 1, 2], vec![17.0, 47.0]));
    }
}
