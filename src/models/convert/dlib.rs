//! dlib's face recognition network (`dlib_face_recognition_resnet_model_v1.dat`) to ONNX.
//!
//! Called by `convert::convert`. dlib writes the settings and weights of every layer, but how the layers hang together is a
//! C++ type that the file only hints at; so the network is written down here, from dlib's example
//! `dnn_face_recognition_ex.cpp`, and every field of the file must be what that network asks for. Affine layers are folded into
//! the convolutions before them. Other networks of dlib are refused. Sources: `serialize.h` and `float_details.h` for
//! numbers, `dnn/core.h`, `dnn/layers.h`, `dnn/input.h`, `dnn/loss.h` and `dnn/tensor.h` of dlib for what stands in which order.

use super::ConvertError;
use super::builder::{Arithmetic, Array, Builder, Padding, Value, Window, image};

/// What the type of the network says; the rest is the same for all sizes.
struct Network {
    /// Height and width of the input in pixels.
    side: usize,
    /// Filters of the first convolution, 7 × 7 at every second pixel, which a maximum over 3 × 3 pixels follows.
    filters: usize,
    /// From the input to the output.
    blocks: &'static [Block],
    /// Length of the embedding.
    columns: usize,
}

/// Two convolutions of 3 × 3 pixels beside a shortcut.
struct Block {
    filters: usize,
    /// The first convolution takes every second pixel, and the shortcut is the mean of 2 × 2 pixels.
    halves: bool,
}

const fn keep(filters: usize) -> Block {
    Block { filters, halves: false }
}

const fn halve(filters: usize) -> Block {
    Block { filters, halves: true }
}

const FACE: Network = Network {
    side: 150,
    filters: 32,
    blocks: &[
        keep(32),
        keep(32),
        keep(32),
        halve(64),
        keep(64),
        keep(64),
        keep(64),
        halve(128),
        keep(128),
        keep(128),
        halve(256),
        keep(256),
        keep(256),
        halve(256),
    ],
    columns: 128,
};

/// Red, green and blue that dlib subtracts before it divides by 256. The manifest says the same; a file with other values needs
/// another entry there.
const MEAN: [f32; 3] = [122.782, 117.001, 104.298];

/// Versions in which layers were written when the file was made.
mod version {
    /// `add_loss_layer`, `add_tag_layer` and `add_skip_layer`.
    pub const MARKER: i64 = 1;
    /// `add_layer` over another layer.
    pub const LAYER: i64 = 2;
    /// `add_layer` over the input.
    pub const FIRST_LAYER: i64 = 3;
    /// `tensor`
    pub const TENSOR: i64 = 2;
    /// `alias_tensor`, a view into another tensor.
    pub const VIEW: i64 = 1;
}

/// A convolution as its layer describes it: square, the same stride both ways.
#[derive(Clone, Copy)]
struct Filter {
    outputs: usize,
    inputs: usize,
    kernel: usize,
    stride: usize,
}

impl Filter {
    /// dlib pads by half a kernel if no pixel is left out, else not at all.
    fn padding(self) -> (usize, Padding) {
        if self.stride == 1 { (self.kernel / 2, Padding::Same) } else { (0, Padding::Valid) }
    }
}

/// Converts the network: `images` `[N,3,150,150]`, red, green and blue less `MEAN` and divided by 256, to `embedding`
/// `[N,128]`, not normalised.
///
/// # Errors
/// [`ConvertError::Malformed`] if the file is cut or damaged or holds more, [`ConvertError::Unsupported`] if it holds another
/// network.
pub fn convert(file: &[u8]) -> Result<Vec<u8>, ConvertError> {
    convert_as(&FACE, file)
}

fn convert_as(network: &Network, file: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let mut conversion = Conversion { reader: Reader { file, at: 0 }, builder: Builder::default() };
    conversion.reader.head(network)?;
    let mut value = conversion.stem(network)?;
    for block in network.blocks {
        value = conversion.residual(&value, block)?;
    }
    conversion.embedding(&value, network.columns)?;
    conversion.reader.end()?;
    Ok(conversion.builder.finish("vouch dlib"))
}

/// Reads layer by layer, from the input to the output, and emits what each computes.
struct Conversion<'a> {
    reader: Reader<'a>,
    builder: Builder,
}

impl Conversion<'_> {
    /// The layers before the first block.
    fn stem(&mut self, network: &Network) -> Result<Value, ConvertError> {
        let filter = Filter { outputs: network.filters, inputs: 3, kernel: 7, stride: 2 };
        let weights = self.reader.convolution(filter)?;
        // Pictures that one input stands for; only the layer over the input has it.
        self.reader.expect("sample expansion factor", 1)?;
        let images = self.builder.input_planes("images", [network.side; 2], 3);
        let value = self.scaled_convolution(&images, filter, weights)?;
        let value = self.relu(&value)?;
        self.reader.pool("max_pool_2", 3, 2)?;
        self.builder.max_pool(&value, window(3, 2, Padding::Valid))
    }

    fn residual(&mut self, input: &Value, block: &Block) -> Result<Value, ConvertError> {
        let (_, _, inputs) = image(input)?;
        let outputs = block.filters;
        let filter = Filter { outputs, inputs, kernel: 3, stride: if block.halves { 2 } else { 1 } };
        let weights = self.reader.convolution(filter)?;
        let value = self.scaled_convolution(input, filter, weights)?;
        let value = self.relu(&value)?;
        let filter = Filter { outputs, inputs: outputs, kernel: 3, stride: 1 };
        let weights = self.reader.convolution(filter)?;
        let value = self.scaled_convolution(&value, filter, weights)?;
        let shortcut = if block.halves {
            self.reader.pool("avg_pool_2", 2, 2)?;
            self.builder.average_pool(input, window(2, 2, Padding::Valid))?
        } else {
            input.clone()
        };
        self.reader.plain_layer("add_prev_")?;
        let sum = self.sum(&value, &shortcut)?;
        self.relu(&sum)
    }

    /// The layers after the last block: the mean of each channel times a matrix.
    fn embedding(&mut self, input: &Value, columns: usize) -> Result<(), ConvertError> {
        let (_, _, channels) = image(input)?;
        // A window of 0 × 0 stands for the whole picture.
        self.reader.pool("avg_pool_2", 0, 1)?;
        let mean = self.builder.mean_over_picture(input)?;
        let matrix = self.reader.matrix(channels, columns)?;
        let row = self.builder.fully_connect(&mean, &matrix, None)?;
        self.builder.output("embedding", &row);
        Ok(())
    }

    /// A convolution with the affine layer that follows it: `gamma × (w ∗ x + b) + beta` is `(gamma × w) ∗ x + (gamma × b + beta)`.
    fn scaled_convolution(
        &mut self,
        input: &Value,
        filter: Filter,
        (mut weights, mut bias): (Array, Array),
    ) -> Result<Value, ConvertError> {
        let (gamma, beta) = self.reader.affine(filter.outputs)?;
        let per_output = filter.inputs * filter.kernel * filter.kernel;
        for (filter, scale) in weights.data.chunks_exact_mut(per_output).zip(&gamma) {
            filter.iter_mut().for_each(|weight| *weight *= scale);
        }
        for ((bias, scale), offset) in bias.data.iter_mut().zip(&gamma).zip(&beta) {
            *bias = *bias * scale + offset;
        }
        let (_, padding) = filter.padding();
        self.builder.convolve(input, &weights, Some(&bias), window(filter.kernel, filter.stride, padding))
    }

    fn relu(&mut self, input: &Value) -> Result<Value, ConvertError> {
        self.reader.plain_layer("relu_")?;
        Ok(self.builder.elementwise("Relu", input))
    }

    /// The sum of two images; where one has fewer rows, columns or channels, dlib takes what is missing at the end as zero.
    fn sum(&mut self, left: &Value, right: &Value) -> Result<Value, ConvertError> {
        let (a, b) = (image(left)?, image(right)?);
        let common = (a.0.max(b.0), a.1.max(b.1), a.2.max(b.2));
        let mut grown = |value: &Value, size: (usize, usize, usize)| {
            if size == common {
                return Ok(value.clone());
            }
            let missing = [common.0 - size.0, common.1 - size.1, common.2 - size.2];
            let [rows, columns, channels] = missing.map(|count| [0, count]);
            self.builder.pad(value, [[0, 0], rows, columns, channels])
        };
        let (left, right) = (grown(left, a)?, grown(right, b)?);
        self.builder.arithmetic(Arithmetic::Add, &left, &right)
    }
}

fn window(kernel: usize, stride: usize, padding: Padding) -> Window {
    Window { kernel: [kernel; 2], strides: [stride; 2], dilations: [1; 2], padding }
}

/// The file and how far it has been read. Nothing is allocated before its bytes are known to be there.
struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// What stands before the first layer. A layer writes its version, then what is below it, then itself: all versions come
    /// first, from the output to the input, and the layers follow in the opposite order.
    fn head(&mut self, network: &Network) -> Result<(), ConvertError> {
        self.expect("version of the loss", version::MARKER)?;
        self.name("loss_metric_2")?;
        // Margin and distance; they are for training.
        self.number()?;
        self.number()?;
        let mut layers =
            |count: usize, version| (0..count).try_for_each(|_| self.expect("version of a layer", version));
        // The matrix and the mean before it.
        layers(2, version::LAYER)?;
        for block in network.blocks.iter().rev() {
            // Rectifier and sum; mean of 2 × 2, from a skip to the tag below and with a tag for the sum; the convolutions with
            // what lies between them; the tag.
            layers(2, version::LAYER)?;
            if block.halves {
                layers(1, version::LAYER)?;
                layers(2, version::MARKER)?;
            }
            layers(5, version::LAYER)?;
            layers(1, version::MARKER)?;
        }
        // Maximum, rectifier, affine layer, convolution.
        layers(3, version::LAYER)?;
        layers(1, version::FIRST_LAYER)?;
        self.name("input_rgb_image_sized")?;
        for (colour, expected) in ["red", "green", "blue"].into_iter().zip(MEAN) {
            let found = self.number()?;
            if found as f32 != expected {
                return Err(self.other(format!("{found} as the mean of {colour}, not {expected}")));
            }
        }
        self.expect_size("height of the input", network.side)?;
        self.expect_size("width of the input", network.side)
    }

    /// Weights `[outputs, inputs, kernel, kernel]` and one bias for each output.
    fn convolution(&mut self, filter: Filter) -> Result<(Array, Array), ConvertError> {
        let Filter { outputs, inputs, kernel, stride } = filter;
        self.name("con_4")?;
        let count = outputs * inputs * kernel * kernel;
        let mut values = self.tensor([count + outputs, 1, 1, 1])?;
        let (padding, _) = filter.padding();
        for (what, expected) in [
            ("number of filters", outputs),
            ("height of a filter", kernel),
            ("width of a filter", kernel),
            ("vertical stride", stride),
            ("horizontal stride", stride),
            ("vertical padding", padding),
            ("horizontal padding", padding),
        ] {
            self.expect_size(what, expected)?;
        }
        self.view([outputs, inputs, kernel, kernel])?;
        self.view([1, outputs, 1, 1])?;
        self.training()?;
        self.layer_end()?;
        let bias = values.split_off(count);
        Ok((Array::new(vec![outputs, inputs, kernel, kernel], values)?, Array::new(vec![outputs], bias)?))
    }

    /// One factor and one summand for each channel.
    fn affine(&mut self, channels: usize) -> Result<(Vec<f32>, Vec<f32>), ConvertError> {
        self.name("affine_")?;
        let mut gamma = self.tensor([2 * channels, 1, 1, 1])?;
        self.view([1, channels, 1, 1])?;
        self.view([1, channels, 1, 1])?;
        self.expect("mode of an affine layer (0: channel by channel)", 0)?;
        self.layer_end()?;
        let beta = gamma.split_off(channels);
        Ok((gamma, beta))
    }

    /// A fully connected layer without bias, `[inputs, outputs]`.
    fn matrix(&mut self, inputs: usize, outputs: usize) -> Result<Array, ConvertError> {
        self.name("fc_2")?;
        self.expect_size("number of columns", outputs)?;
        self.expect_size("number of rows", inputs)?;
        let values = self.tensor([inputs, outputs, 1, 1])?;
        self.view([inputs, outputs, 1, 1])?;
        self.view([0; 4])?;
        self.expect("mode of a matrix (1: no bias)", 1)?;
        self.training()?;
        self.layer_end()?;
        Array::new(vec![inputs, outputs], values)
    }

    /// A pooling layer without padding.
    fn pool(&mut self, name: &str, side: usize, stride: usize) -> Result<(), ConvertError> {
        self.name(name)?;
        for (what, expected) in [
            ("height of a window", side),
            ("width of a window", side),
            ("vertical stride", stride),
            ("horizontal stride", stride),
            ("vertical padding", 0),
            ("horizontal padding", 0),
        ] {
            self.expect_size(what, expected)?;
        }
        self.layer_end()
    }

    /// A layer that has a name and nothing else.
    fn plain_layer(&mut self, name: &str) -> Result<(), ConvertError> {
        self.name(name)?;
        self.layer_end()
    }

    /// What follows every layer: three flags of the computation, then two gradients and the last output, which are empty in a
    /// network that was cleaned before it was written.
    fn layer_end(&mut self) -> Result<(), ConvertError> {
        for &flag in self.take(3)? {
            if !matches!(flag, b'0' | b'1') {
                return Err(self.malformed(format!("{flag} where a flag belongs")));
            }
        }
        (0..3).try_for_each(|_| self.tensor([0; 4]).map(drop))
    }

    /// Four factors for rates of learning and decay of weights.
    fn training(&mut self) -> Result<(), ConvertError> {
        (0..4).try_for_each(|_| self.number().map(drop))
    }

    fn tensor(&mut self, shape: [usize; 4]) -> Result<Vec<f32>, ConvertError> {
        self.expect("version of a tensor", version::TENSOR)?;
        shape.into_iter().try_for_each(|size| self.expect_size("size of a tensor", size))?;
        let length = shape.into_iter().try_fold(4usize, |product, size| product.checked_mul(size));
        let length = length.ok_or_else(|| self.malformed(format!("a tensor of {shape:?}")))?;
        let values: Vec<f32> =
            self.take(length)?.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.malformed("a weight that is no number".to_owned()));
        }
        Ok(values)
    }

    fn view(&mut self, shape: [usize; 4]) -> Result<(), ConvertError> {
        self.expect("version of a view", version::VIEW)?;
        shape.into_iter().try_for_each(|size| self.expect_size("size of a view", size))
    }

    /// A text of stated length that must be `expected`.
    fn name(&mut self, expected: &str) -> Result<(), ConvertError> {
        let length = self.integer()?;
        let found = usize::try_from(length).ok().filter(|&length| length == expected.len());
        let found = found.map(|length| self.take(length)).transpose()?;
        if found != Some(expected.as_bytes()) {
            return Err(self.other(format!("no {expected} where one belongs")));
        }
        Ok(())
    }

    fn expect_size(&mut self, what: &str, expected: usize) -> Result<(), ConvertError> {
        let found = self.integer()?;
        if usize::try_from(found) != Ok(expected) {
            return Err(self.other(format!("{found} as {what}, not {expected}")));
        }
        Ok(())
    }

    fn expect(&mut self, what: &str, expected: i64) -> Result<(), ConvertError> {
        let found = self.integer()?;
        if found != expected {
            return Err(self.other(format!("{found} as {what}, not {expected}")));
        }
        Ok(())
    }

    /// A floating-point number: an integer and the power of two that it is multiplied with.
    fn number(&mut self) -> Result<f64, ConvertError> {
        let (mantissa, exponent) = (self.integer()?, self.integer()?);
        // dlib's exponents from 32000 on stand for infinities and for what is no number.
        match i32::try_from(exponent) {
            Ok(exponent) if exponent.abs() <= 1100 => Ok(mantissa as f64 * 2f64.powi(exponent)),
            _ => Err(self.malformed(format!("a number with the exponent {exponent}"))),
        }
    }

    /// An integer: a byte with the number of bytes that follow and the sign in its highest bit, then the absolute value, the
    /// lowest byte first.
    fn integer(&mut self) -> Result<i64, ConvertError> {
        let (length, negative) = match self.take(1)? {
            [head] => (usize::from(head & 0x7f), head & 0x80 != 0),
            _ => return Err(self.malformed("no integer where one belongs".to_owned())),
        };
        if !(1..=8).contains(&length) {
            return Err(self.malformed(format!("an integer of {length} bytes")));
        }
        let value = self.take(length)?.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        match i64::try_from(value) {
            Ok(value) if negative => Ok(-value),
            Ok(value) => Ok(value),
            Err(_) => Err(self.malformed(format!("{value} is too large"))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ConvertError> {
        let rest = self.file.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or_else(|| self.malformed("the file ends too early".to_owned()))?;
        self.at += length;
        Ok(taken)
    }

    fn end(&self) -> Result<(), ConvertError> {
        if self.at != self.file.len() {
            return Err(self.malformed("the file goes on after the last layer".to_owned()));
        }
        Ok(())
    }

    fn malformed(&self, what: String) -> ConvertError {
        ConvertError::malformed(format!("dlib network, byte {}: {what}", self.at))
    }

    /// Something that dlib could have written, for another network.
    fn other(&self, what: String) -> ConvertError {
        ConvertError::unsupported(format!("dlib network, byte {}: {what}", self.at))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::onnx::{GraphProto, ModelProto};
    use super::*;

    /// 31 × 31 pixels become 13 × 13 and, after the maximum, 6 × 6; of these the halving block makes 2 × 2 on one way and 3 × 3
    /// on the other.
    const SMALL: Network = Network { side: 31, filters: 1, blocks: &[keep(1), halve(2)], columns: 2 };

    /// Writes as dlib does. Every weight of a convolution is 0.5, every bias 1, every factor 2 and every summand 3.
    #[derive(Default)]
    struct Writer {
        bytes: Vec<u8>,
    }

    impl Writer {
        fn integers(&mut self, values: &[i64]) {
            for value in values {
                let bytes = value.unsigned_abs().to_le_bytes();
                let length = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
                self.bytes.push(length as u8 | if *value < 0 { 0x80 } else { 0 });
                self.bytes.extend(&bytes[..length]);
            }
        }

        fn name(&mut self, name: &str) {
            self.integers(&[name.len() as i64]);
            self.bytes.extend(name.as_bytes());
        }

        fn tensor(&mut self, shape: [i64; 4], values: &[f32]) {
            self.integers(&[2]);
            self.integers(&shape);
            self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }

        fn layer_end(&mut self) {
            self.bytes.extend(b"110");
            (0..3).for_each(|_| self.tensor([0; 4], &[]));
        }

        fn convolution(&mut self, [outputs, inputs, kernel, stride]: [i64; 4]) {
            self.name("con_4");
            let count = outputs * inputs * kernel * kernel;
            let values: Vec<f32> = (0..count + outputs).map(|index| if index < count { 0.5 } else { 1.0 }).collect();
            self.tensor([count + outputs, 1, 1, 1], &values);
            let padding = if stride == 1 { kernel / 2 } else { 0 };
            self.integers(&[outputs, kernel, kernel, stride, stride, padding, padding]);
            self.integers(&[1, outputs, inputs, kernel, kernel, 1, 1, outputs, 1, 1]);
            self.integers(&[16, -4, 16, -4, 16, -4, 0, 11]);
            self.layer_end();
        }

        fn affine(&mut self, channels: i64) {
            self.name("affine_");
            let values: Vec<f32> = (0..2 * channels).map(|index| if index < channels { 2.0 } else { 3.0 }).collect();
            self.tensor([2 * channels, 1, 1, 1], &values);
            self.integers(&[1, 1, channels, 1, 1, 1, 1, channels, 1, 1, 0]);
            self.layer_end();
        }

        fn plain(&mut self, name: &str, settings: &[i64]) {
            self.name(name);
            self.integers(settings);
            self.layer_end();
        }

        fn block(&mut self, inputs: i64, outputs: i64, stride: i64) {
            self.convolution([outputs, inputs, 3, stride]);
            self.affine(outputs);
            self.plain("relu_", &[]);
            self.convolution([outputs, outputs, 3, 1]);
            self.affine(outputs);
            if stride == 2 {
                self.plain("avg_pool_2", &[2, 2, 2, 2, 0, 0]);
            }
            self.plain("add_prev_", &[]);
            self.plain("relu_", &[]);
        }
    }

    fn small() -> Vec<u8> {
        let mut writer = Writer::default();
        writer.integers(&[1]);
        writer.name("loss_metric_2");
        // 0.04 and 0.6 as dlib writes them.
        writer.integers(&[0xa3_d70a, -28, 0x99_999a, -24]);
        let (halving, keeping) = ([2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 1], [2, 2, 2, 2, 2, 2, 2, 1]);
        writer.integers(&[[2, 2].as_slice(), &halving, &keeping, &[2, 2, 2, 3]].concat());
        writer.name("input_rgb_image_sized");
        for mean in MEAN {
            writer.integers(&[(mean * 131_072.0) as i64, -17]);
        }
        writer.integers(&[31, 31]);
        writer.convolution([1, 3, 7, 2]);
        writer.integers(&[1]);
        writer.affine(1);
        writer.plain("relu_", &[]);
        writer.plain("max_pool_2", &[3, 3, 2, 2, 0, 0]);
        writer.block(1, 1, 1);
        writer.block(1, 2, 2);
        writer.plain("avg_pool_2", &[0, 0, 1, 1, 0, 0]);
        writer.name("fc_2");
        writer.integers(&[2, 2]);
        writer.tensor([2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
        writer.integers(&[1, 2, 2, 1, 1, 1, 0, 0, 0, 0, 1]);
        writer.integers(&[16, -4, 16, -4, 16, -4, 0, 11]);
        writer.layer_end();
        writer.bytes
    }

    fn graph(file: &[u8]) -> GraphProto {
        ModelProto::decode(convert_as(&SMALL, file).unwrap().as_slice()).unwrap().graph.unwrap()
    }

    #[test]
    fn a_small_network_is_converted() {
        let graph = graph(&small());
        let operators: Vec<_> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        let stem = ["Conv", "Relu", "MaxPool"].as_slice();
        let keeping = ["Conv", "Relu", "Conv", "Add", "Relu"].as_slice();
        let halving = ["Conv", "Relu", "Conv", "AveragePool", "Pad", "Pad", "Add", "Relu"].as_slice();
        let end = ["ReduceMean", "Gemm", "Identity"].as_slice();
        assert_eq!(operators, [stem, keeping, halving, end].concat());
        // The shortcut of a block is what went into it.
        assert_eq!(graph.node[6].input[1], graph.node[2].output[0]);
        assert_eq!(graph.node[11].input[0], graph.node[7].output[0]);
        let pads = |attributes: usize| graph.node[attributes].attribute("pads").unwrap().ints.clone();
        assert_eq!((pads(0), pads(3), pads(8)), (vec![0; 4], vec![1; 4], vec![0; 4]));
        let ends = (&graph.input[0].name, &graph.output[0].name);
        assert_eq!(ends, (&"images".to_owned(), &"embedding".to_owned()));
    }

    #[test]
    fn affine_layers_become_part_of_the_convolutions() {
        let graph = graph(&small());
        let weights: Vec<_> = graph.initializer.iter().filter(|tensor| tensor.dims.len() == 4).collect();
        assert_eq!(weights.len(), 5);
        assert!(weights.iter().all(|tensor| tensor.widened_f32().unwrap().iter().all(|&weight| weight == 2.0 * 0.5)));
        let biases: Vec<_> = graph.initializer.iter().filter(|tensor| tensor.dims.len() == 1).collect();
        let biases = biases.iter().filter_map(|tensor| tensor.widened_f32().ok());
        assert!(biases.flatten().all(|bias| bias == 2.0 * 1.0 + 3.0));
        let matrix = graph.initializer.iter().find(|tensor| tensor.dims == [2, 2]).unwrap();
        assert_eq!(matrix.widened_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn the_side_that_is_too_small_is_filled_with_zeros() {
        let graph = graph(&small());
        let amounts = |index: usize| {
            let name = &graph.node[index].input[1];
            graph.initializer.iter().find(|tensor| tensor.name == *name).unwrap().to_i64().unwrap()
        };
        // Batch, channels, rows, columns before; the same after. The convolutions end with 2 × 2 pixels and the shortcut with
        // one channel.
        assert_eq!(amounts(12), [0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(amounts(13), [0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_cut_or_longer_file_is_refused() {
        let file = small();
        for length in 0..file.len() {
            assert!(convert_as(&SMALL, &file[..length]).is_err(), "{length} bytes");
        }
        let longer = [file.as_slice(), &[0]].concat();
        assert!(matches!(convert_as(&SMALL, &longer), Err(ConvertError::Malformed(_))));
        assert!(matches!(convert(&file), Err(ConvertError::Unsupported(_))), "another network");
    }

    #[test]
    fn no_changed_byte_does_harm() {
        let mut file = small();
        for index in 0..file.len() {
            let right = file[index];
            for wrong in [0x08, 0x88, right ^ 1] {
                file[index] = wrong;
                // Weights may be anything; all else is compared. Neither may end the process.
                drop(convert_as(&SMALL, &file));
            }
            file[index] = right;
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let file = small();
        let refuse = |from: &[u8], to: &[u8]| {
            let at = file.windows(from.len()).position(|window| window == from).unwrap();
            let changed = [&file[..at], to, &file[at + from.len()..]].concat();
            convert_as(&SMALL, &changed).unwrap_err().to_string()
        };
        let cases: [(&[u8], &[u8], &str); 8] = [
            (b"con_4", b"con_5", "no con_4"),
            (b"loss_metric_2", b"loss_metric_3", "no loss_metric_2"),
            (b"\x01\x1f\x01\x1f", b"\x01\x1f\x01\x20", "32 as width of the input, not 31"),
            (b"\x03\x0a\xd7\xa3", b"\x09\x0a\xd7\xa3", "an integer of 9 bytes"),
            (b"\x03\x0a\xd7\xa3\x81\x1c", b"\x03\x0a\xd7\xa3\x02\x00\x7d", "exponent 32000"),
            (b"\x00\x00\x00\x3f", b"\x00\x00\xc0\x7f", "no number"),
            (b"110\x01\x02\x01\x00", b"110\x01\x02\x01\x01", "1 as size of a tensor, not 0"),
            (b"110", b"210", "where a flag belongs"),
        ];
        for (from, to, reason) in cases {
            let message = refuse(from, to);
            assert!(message.contains(reason), "{reason}: {message}");
        }
    }
}
