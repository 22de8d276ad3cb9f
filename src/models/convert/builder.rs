//! Emits ONNX graphs for image networks of other formats.
//!
//! Called by `tflite`, `tfjs` and `dlib`. TensorFlow's networks were written with channels last: the graph takes `[N,H,W,C]` as
//! its source does, turns it once to `[N,C,H,W]`, which is what ONNX convolutions want, and turns images back only where they
//! leave the graph. dlib's have channels first from the start. Sizes are tracked, so that TensorFlow's "SAME" padding becomes
//! explicit numbers.

use prost::Message;

use super::ConvertError;
use super::onnx::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};

/// Operator set 17 is the last in which `ReduceMean` takes its axes as an attribute; every runtime since 2022 knows it.
const OPERATOR_SET: i64 = 17;
/// Version 8 of the file format belongs to that operator set.
const IR_VERSION: i64 = 8;

/// What a value of the graph looks like, without the batch dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `[N, channels, height, width]` in the emitted graph, whatever the source has.
    Image { height: usize, width: usize, channels: usize },
    /// `[N, columns]` in both.
    Row { columns: usize },
}

/// A computed value.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub name: String,
    pub shape: Shape,
}

/// TensorFlow's padding rules: "SAME" gives `ceil(size / stride)` outputs and puts the odd pixel last, "VALID" pads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    Same,
    Valid,
}

/// A window that slides over an image; all pairs are `[vertical, horizontal]`.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    pub padding: Padding,
}

/// A dense array of the source, in the source's layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Two-operand arithmetic; the name is ONNX's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Mul,
}

#[derive(Default)]
pub struct Builder {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
}

impl Array {
    /// # Errors
    /// [`ConvertError::Malformed`] if the number of values is not what the shape asks for.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, ConvertError> {
        let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if count != Some(data.len()) {
            return Err(ConvertError::malformed(format!("{} values for shape {shape:?}", data.len())));
        }
        Ok(Self { shape, data })
    }

    /// The same values with dimension `order[i]` of this array as dimension `i`. `order` is a permutation.
    pub fn transposed<const RANK: usize>(&self, order: [usize; RANK]) -> Result<Self, ConvertError> {
        let shape: [usize; RANK] =
            self.shape.as_slice().try_into().map_err(|_| {
                ConvertError::unsupported(format!("shape {:?} where {RANK} dimensions belong", self.shape))
            })?;
        let mut strides = [1usize; RANK];
        for axis in (1..RANK).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let target = order.map(|axis| shape[axis]);
        let mut data = Vec::with_capacity(self.data.len());
        let mut index = [0usize; RANK];
        for _ in 0..self.data.len() {
            let from: usize = (0..RANK).map(|axis| index[axis] * strides[order[axis]]).sum();
            data.push(self.data[from]);
            for axis in (0..RANK).rev() {
                index[axis] += 1;
                if index[axis] < target[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(Self { shape: target.to_vec(), data })
    }
}

impl Window {
    /// Output size and padding before and after, for one of the two directions.
    fn extent(&self, direction: usize, size: usize) -> Result<(usize, usize, usize), ConvertError> {
        let (kernel, stride, dilation) = (self.kernel[direction], self.strides[direction], self.dilations[direction]);
        if kernel == 0 || stride == 0 || dilation == 0 || size == 0 {
            return Err(ConvertError::malformed(format!("window {self:?} over {size} pixels")));
        }
        let reach = (kernel - 1) * dilation + 1;
        match self.padding {
            Padding::Same => {
                let count = size.div_ceil(stride);
                let total = ((count - 1) * stride + reach).saturating_sub(size);
                Ok((count, total / 2, total - total / 2))
            }
            Padding::Valid if reach <= size => Ok(((size - reach) / stride + 1, 0, 0)),
            Padding::Valid => Err(ConvertError::malformed(format!("window {self:?} over {size} pixels"))),
        }
    }

    /// Output height and width, and the attributes that describe the window to ONNX.
    fn describe(&self, height: usize, width: usize) -> Result<([usize; 2], Vec<AttributeProto>), ConvertError> {
        let (rows, top, bottom) = self.extent(0, height)?;
        let (columns, left, right) = self.extent(1, width)?;
        let ints = |values: &[usize]| values.iter().map(|&value| value as i64).collect::<Vec<_>>();
        let attributes = vec![
            AttributeProto::ints("kernel_shape", &ints(&self.kernel)),
            AttributeProto::ints("strides", &ints(&self.strides)),
            AttributeProto::ints("dilations", &ints(&self.dilations)),
            AttributeProto::ints("pads", &ints(&[top, left, bottom, right])),
        ];
        Ok(([rows, columns], attributes))
    }
}

impl Builder {
    /// Declares the graph input `[N, height, width, channels]`.
    pub fn input(&mut self, name: &str, height: usize, width: usize, channels: usize) -> Value {
        self.inputs.push(ValueInfoProto::f32(name, dims(&[height, width, channels])));
        let turned = self.node("Transpose", &[name], vec![AttributeProto::ints("perm", &[0, 3, 1, 2])]);
        Value { name: turned, shape: Shape::Image { height, width, channels } }
    }

    /// Declares the graph input `[N, channels, height, width]`, for a source that has channels first.
    pub fn input_planes(&mut self, name: &str, [height, width]: [usize; 2], channels: usize) -> Value {
        self.inputs.push(ValueInfoProto::f32(name, dims(&[channels, height, width])));
        Value { name: name.to_owned(), shape: Shape::Image { height, width, channels } }
    }

    /// A convolution. `weights` is `[outputs, inputs / groups, kernel height, kernel width]`, `bias` has one value per output.
    pub fn convolve(
        &mut self,
        input: &Value,
        weights: &Array,
        bias: Option<&Array>,
        window: Window,
    ) -> Result<Value, ConvertError> {
        let (height, width, channels) = image(input)?;
        let [outputs, per_group, ..] = weights.shape[..] else {
            return Err(ConvertError::malformed(format!("convolution weights of shape {:?}", weights.shape)));
        };
        let fits =
            per_group > 0 && channels.is_multiple_of(per_group) && bias.is_none_or(|bias| bias.shape == [outputs]);
        if !fits || weights.shape.len() != 4 {
            return Err(ConvertError::malformed(format!("weights {:?} over {channels} channels", weights.shape)));
        }
        let ([height, width], mut attributes) = window.describe(height, width)?;
        attributes.push(AttributeProto::int("group", (channels / per_group) as i64));
        let mut inputs = vec![input.name.clone(), self.constant(weights)];
        inputs.extend(bias.map(|bias| self.constant(bias)));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let name = self.node("Conv", &inputs, attributes);
        Ok(Value { name, shape: Shape::Image { height, width, channels: outputs } })
    }

    pub fn max_pool(&mut self, input: &Value, window: Window) -> Result<Value, ConvertError> {
        self.pool("MaxPool", input, window)
    }

    /// The mean of each window; what padding adds does not count.
    pub fn average_pool(&mut self, input: &Value, window: Window) -> Result<Value, ConvertError> {
        self.pool("AveragePool", input, window)
    }

    fn pool(&mut self, operator: &str, input: &Value, window: Window) -> Result<Value, ConvertError> {
        let (height, width, channels) = image(input)?;
        let ([height, width], mut attributes) = window.describe(height, width)?;
        attributes.retain(|attribute| attribute.name != "dilations");
        let name = self.node(operator, &[&input.name], attributes);
        Ok(Value { name, shape: Shape::Image { height, width, channels } })
    }

    /// An operator with one operand that keeps the shape, by its ONNX name.
    pub fn elementwise(&mut self, operator: &str, input: &Value) -> Value {
        let name = self.node(operator, &[&input.name], Vec::new());
        Value { name, shape: input.shape }
    }

    /// Softmax over the columns of a row.
    pub fn softmax(&mut self, input: &Value) -> Result<Value, ConvertError> {
        columns(input)?;
        let name = self.node("Softmax", &[&input.name], vec![AttributeProto::int("axis", 1)]);
        Ok(Value { name, shape: input.shape })
    }

    /// Limits every element from below, from above or both.
    pub fn clip(&mut self, input: &Value, minimum: Option<f32>, maximum: Option<f32>) -> Value {
        let mut limit = |limit: Option<f32>| match limit {
            Some(value) => self.constant(&Array { shape: Vec::new(), data: vec![value] }),
            None => String::new(),
        };
        let (minimum, maximum) = (limit(minimum), limit(maximum));
        let name = self.node("Clip", &[&input.name, &minimum, &maximum], Vec::new());
        Value { name, shape: input.shape }
    }

    pub fn arithmetic(&mut self, operator: Arithmetic, left: &Value, right: &Value) -> Result<Value, ConvertError> {
        if left.shape != right.shape {
            return Err(ConvertError::unsupported(format!("{operator:?} of {:?} and {:?}", left.shape, right.shape)));
        }
        let name = self.node(&format!("{operator:?}"), &[&left.name, &right.name], Vec::new());
        Ok(Value { name, shape: left.shape })
    }

    /// Arithmetic with a constant that has one value, or one per channel or column.
    pub fn arithmetic_constant(
        &mut self,
        operator: Arithmetic,
        input: &Value,
        constant: &Array,
    ) -> Result<Value, ConvertError> {
        let constant = self.per_channel(input, constant)?;
        let name = self.node(&format!("{operator:?}"), &[&input.name, &constant], Vec::new());
        Ok(Value { name, shape: input.shape })
    }

    /// `x` where positive, `slope × x` elsewhere; `slope` has one value per channel.
    pub fn prelu(&mut self, input: &Value, slope: &Array) -> Result<Value, ConvertError> {
        let slope = self.per_channel(input, slope)?;
        let name = self.node("PRelu", &[&input.name, &slope], Vec::new());
        Ok(Value { name, shape: input.shape })
    }

    /// Zeros around an image: `[before, after]` for batch, height, width and channels, the source's order.
    pub fn pad(&mut self, input: &Value, amounts: [[usize; 2]; 4]) -> Result<Value, ConvertError> {
        let (height, width, channels) = image(input)?;
        let [batch, rows, cols, chans] = amounts;
        if batch != [0, 0] {
            return Err(ConvertError::unsupported("padding of the batch"));
        }
        let order = [batch, chans, rows, cols];
        let pads: Vec<i64> = order.iter().map(|a| a[0] as i64).chain(order.iter().map(|a| a[1] as i64)).collect();
        let pads = self.integers(&pads);
        let name = self.node("Pad", &[&input.name, &pads], Vec::new());
        let grown = |size: usize, amount: [usize; 2]| size + amount[0] + amount[1];
        let shape =
            Shape::Image { height: grown(height, rows), width: grown(width, cols), channels: grown(channels, chans) };
        Ok(Value { name, shape })
    }

    /// The mean of each channel over the whole picture: image to row.
    pub fn mean_over_picture(&mut self, input: &Value) -> Result<Value, ConvertError> {
        let (_, _, channels) = image(input)?;
        let attributes = vec![AttributeProto::ints("axes", &[2, 3]), AttributeProto::int("keepdims", 0)];
        let name = self.node("ReduceMean", &[&input.name], attributes);
        Ok(Value { name, shape: Shape::Row { columns: channels } })
    }

    /// Row times `[inputs, outputs]` weights, plus bias if there is one.
    pub fn fully_connect(
        &mut self,
        input: &Value,
        weights: &Array,
        bias: Option<&Array>,
    ) -> Result<Value, ConvertError> {
        let columns = columns(input)?;
        let [inputs, outputs] = weights.shape[..] else {
            return Err(ConvertError::malformed(format!("a matrix of shape {:?}", weights.shape)));
        };
        if inputs != columns || bias.is_some_and(|bias| bias.shape != [outputs]) {
            let shapes = (&weights.shape, bias.map(|bias| &bias.shape));
            return Err(ConvertError::malformed(format!("weights and bias {shapes:?} over {columns} columns")));
        }
        let mut inputs = vec![input.name.clone(), self.constant(weights)];
        inputs.extend(bias.map(|bias| self.constant(bias)));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let name = self.node("Gemm", &inputs, Vec::new());
        Ok(Value { name, shape: Shape::Row { columns: outputs } })
    }

    /// Declares `value` as a graph output under `name`; images leave with channels last.
    pub fn output(&mut self, name: &str, value: &Value) {
        let (sizes, operator, attributes) = match value.shape {
            Shape::Image { height, width, channels } => {
                (vec![height, width, channels], "Transpose", vec![AttributeProto::ints("perm", &[0, 2, 3, 1])])
            }
            Shape::Row { columns } => (vec![columns], "Identity", Vec::new()),
        };
        let produced = self.node(operator, &[&value.name], attributes);
        // The last node is the one just added; it gives the value its public name.
        if let Some(node) = self.nodes.last_mut().filter(|node| node.output[0] == produced) {
            node.output[0] = name.to_owned();
        }
        self.outputs.push(ValueInfoProto::f32(name, dims(&sizes)));
    }

    /// The bytes of the finished file.
    pub fn finish(self, producer: &str) -> Vec<u8> {
        let graph = GraphProto {
            node: self.nodes,
            name: "converted".into(),
            initializer: self.initializers,
            input: self.inputs,
            output: self.outputs,
            sparse_initializer: Vec::new(),
        };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }];
        let producer_name = producer.to_owned();
        ModelProto { ir_version: IR_VERSION, producer_name, graph: Some(graph), opset_import, ..ModelProto::default() }
            .encode_to_vec()
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = format!("{}_{}", operator.to_lowercase(), self.nodes.len());
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.to_owned(),
            attribute,
            domain: String::new(),
        });
        name
    }

    fn constant(&mut self, array: &Array) -> String {
        let name = format!("constant_{}", self.initializers.len());
        let dims: Vec<i64> = array.shape.iter().map(|&size| size as i64).collect();
        self.initializers.push(TensorProto::f32(&name, &dims, array.data.iter().copied()));
        name
    }

    fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("constant_{}", self.initializers.len());
        self.initializers.push(TensorProto::i64(&name, values));
        name
    }

    /// A constant of one value, or one per channel in the last dimension, shaped so that ONNX spreads it over `input`.
    fn per_channel(&mut self, input: &Value, constant: &Array) -> Result<String, ConvertError> {
        let (count, shape) = match input.shape {
            Shape::Image { channels, .. } => (channels, vec![channels, 1, 1]),
            Shape::Row { columns } => (columns, vec![columns]),
        };
        if constant.data.len() == 1 {
            return Ok(self.constant(&Array { shape: Vec::new(), data: constant.data.clone() }));
        }
        if constant.data.len() != count || constant.shape.last() != Some(&count) {
            let shape = &constant.shape;
            return Err(ConvertError::unsupported(format!("a constant of shape {shape:?} over {:?}", input.shape)));
        }
        Ok(self.constant(&Array { shape, data: constant.data.clone() }))
    }
}

fn dims(sizes: &[usize]) -> Vec<DimensionProto> {
    let sizes = sizes.iter().map(|&size| DimensionProto::fixed(size as i64));
    std::iter::once(DimensionProto::free("N")).chain(sizes).collect()
}

/// Height, width and channels of an image.
pub fn image(value: &Value) -> Result<(usize, usize, usize), ConvertError> {
    match value.shape {
        Shape::Image { height, width, channels } => Ok((height, width, channels)),
        Shape::Row { .. } => Err(ConvertError::unsupported(format!("{} should be an image", value.name))),
    }
}

fn columns(value: &Value) -> Result<usize, ConvertError> {
    match value.shape {
        Shape::Row { columns } => Ok(columns),
        Shape::Image { .. } => Err(ConvertError::unsupported(format!("{} should be a row", value.name))),
    }
}

/// The value of an IEEE 754 half-precision number.
pub fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0f32 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    // Every factor is a power of two or an integer below 2048, so nothing is rounded.
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_puts_the_odd_pixel_last() {
        let window = |kernel, stride| Window {
            kernel: [kernel; 2],
            strides: [stride; 2],
            dilations: [1; 2],
            padding: Padding::Same,
        };
        assert_eq!(window(3, 2).extent(0, 192).unwrap(), (96, 0, 1));
        assert_eq!(window(3, 1).extent(0, 7).unwrap(), (7, 1, 1));
        assert_eq!(window(3, 2).extent(0, 7).unwrap(), (4, 1, 1));
        assert_eq!(window(1, 2).extent(0, 8).unwrap(), (4, 0, 0));
        let valid = Window { padding: Padding::Valid, ..window(3, 3) };
        assert_eq!(valid.extent(0, 3).unwrap(), (1, 0, 0));
        assert!(valid.extent(0, 2).is_err());
        assert!(window(3, 0).extent(0, 8).is_err());
    }

    #[test]
    fn transposing_moves_every_value() {
        let array = Array::new(vec![2, 1, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let turned = array.transposed([2, 1, 0]).unwrap();
        assert_eq!(turned.shape, [3, 1, 2]);
        assert_eq!(turned.data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(array.transposed([1, 0]).is_err());
        assert!(Array::new(vec![usize::MAX, 2], vec![]).is_err());
    }

    #[test]
    fn halves_are_exact() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x8000, -0.0),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(half_to_f32(bits).to_bits(), f32::to_bits(value), "{bits:#06x}");
        }
        assert!(half_to_f32(0x7e00).is_nan());
    }
}
