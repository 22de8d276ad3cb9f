//! TensorFlow Lite files to ONNX.
//!
//! Called by `convert::convert`. Reads the flatbuffer itself, every access checked against the end of the file, and knows the
//! seven operators that the face mesh uses; half-precision weights are widened. Sources: the flatbuffers binary format
//! (`flatbuffers.dev/internals`) and `tensorflow/lite/schema/schema.fbs`, whose field order gives the numbers used here.

use std::collections::HashMap;

use super::ConvertError;
use super::builder::{Arithmetic, Array, Builder, Padding, Value, Window, half_to_f32};

/// `BuiltinOperator` values.
mod operator {
    pub const ADD: i32 = 0;
    pub const CONV_2D: i32 = 3;
    pub const DEPTHWISE_CONV_2D: i32 = 4;
    pub const DEQUANTIZE: i32 = 6;
    pub const MAX_POOL_2D: i32 = 17;
    pub const PAD: i32 = 34;
    pub const PRELU: i32 = 54;
}

/// `TensorType` values.
mod tensor_type {
    pub const FLOAT32: i8 = 0;
    pub const FLOAT16: i8 = 1;
    pub const INT32: i8 = 2;
}

/// `ActivationFunctionType` values.
mod activation {
    pub const NONE: i8 = 0;
    pub const RELU: i8 = 1;
    pub const RELU6: i8 = 3;
}

/// Converts the first sub-graph. Input and outputs keep their names and their channels-last layout.
///
/// # Errors
/// [`ConvertError`] if the file is malformed or uses another operator, activation or element type.
pub fn convert(file: &[u8]) -> Result<Vec<u8>, ConvertError> {
    if file.get(4..8) != Some(b"TFL3") {
        return Err(ConvertError::malformed("not a TensorFlow Lite file"));
    }
    let model = Table::root(file)?;
    let codes = model.tables(1)?.into_iter().map(|code| {
        // Old files keep the code in one byte (field 0), newer ones in field 3 with the old field as a stand-in.
        Ok(code.i32(3, 0)?.max(i32::from(code.i8(0, 0)?)))
    });
    let codes = codes.collect::<Result<Vec<_>, ConvertError>>()?;
    let buffers = model.tables(4)?;
    let [subgraph] = model.tables(2)?[..] else {
        return Err(ConvertError::unsupported("several sub-graphs"));
    };
    let mut conversion = Conversion {
        tensors: subgraph.tables(0)?,
        buffers,
        builder: Builder::default(),
        constants: HashMap::new(),
        values: HashMap::new(),
    };
    let [input] = subgraph.i32s(1)?[..] else {
        return Err(ConvertError::unsupported("several inputs"));
    };
    conversion.input(input)?;
    for operator in subgraph.tables(3)? {
        let code = codes.get(operator.i32(0, 0)? as usize);
        let code = *code.ok_or_else(|| ConvertError::malformed("an operator without a code"))?;
        conversion.operator(code, &operator)?;
    }
    for output in subgraph.i32s(2)? {
        let name = conversion.tensor(output)?.string(3)?.to_owned();
        let value = conversion.value(output)?.clone();
        conversion.builder.output(&name, &value);
    }
    Ok(conversion.builder.finish("vouch tflite"))
}

struct Conversion<'a> {
    tensors: Vec<Table<'a>>,
    buffers: Vec<Table<'a>>,
    builder: Builder,
    /// Widened half-precision weights by tensor index.
    constants: HashMap<i32, Array>,
    /// Computed values by tensor index.
    values: HashMap<i32, Value>,
}

impl<'a> Conversion<'a> {
    fn input(&mut self, index: i32) -> Result<(), ConvertError> {
        let tensor = self.tensor(index)?;
        let [_, height, width, channels] = self.shape(index)?[..] else {
            return Err(ConvertError::unsupported("an input that is not an image"));
        };
        let value = self.builder.input(tensor.string(3)?, height, width, channels);
        self.values.insert(index, value);
        Ok(())
    }

    fn operator(&mut self, code: i32, node: &Table<'a>) -> Result<(), ConvertError> {
        let (inputs, outputs) = (node.i32s(1)?, node.i32s(2)?);
        let [output] = outputs[..] else {
            return Err(ConvertError::unsupported("an operator with several outputs"));
        };
        let input = |position: usize| {
            inputs
                .get(position)
                .copied()
                .ok_or_else(|| ConvertError::malformed(format!("operator {code} lacks an input")))
        };
        let options = node.table(4)?;
        let value = match code {
            operator::DEQUANTIZE => {
                let weights = self.constant(input(0)?)?;
                self.constants.insert(output, weights);
                return Ok(());
            }
            operator::CONV_2D => {
                let weights = self.constant(input(1)?)?.transposed([0, 3, 1, 2])?;
                let window = options.window([weights.shape[2], weights.shape[3]], 4)?;
                self.convolve(&inputs, &weights, window, options.i8(3, 0)?)?
            }
            operator::DEPTHWISE_CONV_2D => {
                let weights = self.constant(input(1)?)?.transposed([3, 0, 1, 2])?;
                let window = options.window([weights.shape[2], weights.shape[3]], 5)?;
                self.convolve(&inputs, &weights, window, options.i8(4, 0)?)?
            }
            operator::MAX_POOL_2D => {
                let kernel = [options.size(4, 0)?, options.size(3, 0)?];
                let window = Window { dilations: [1, 1], ..options.window(kernel, usize::MAX)? };
                let source = self.value(input(0)?)?.clone();
                let value = self.builder.max_pool(&source, window)?;
                self.activate(value, options.i8(5, 0)?)?
            }
            operator::ADD => {
                let (left, right) = (self.value(input(0)?)?.clone(), self.value(input(1)?)?.clone());
                let value = self.builder.arithmetic(Arithmetic::Add, &left, &right)?;
                self.activate(value, options.i8(0, 0)?)?
            }
            operator::PRELU => {
                let source = self.value(input(0)?)?.clone();
                let slope = self.constant(input(1)?)?;
                self.builder.prelu(&source, &slope)?
            }
            operator::PAD => {
                let source = self.value(input(0)?)?.clone();
                let amounts = self.paddings(input(1)?)?;
                self.builder.pad(&source, amounts)?
            }
            other => {
                return Err(ConvertError::unsupported(format!("TensorFlow Lite operator {other}")));
            }
        };
        self.values.insert(output, value);
        Ok(())
    }

    fn convolve(&mut self, inputs: &[i32], weights: &Array, window: Window, fused: i8) -> Result<Value, ConvertError> {
        let source = self.value(inputs[0])?.clone();
        // A missing optional input is written as −1.
        let bias = inputs.get(2).filter(|&&index| index >= 0).map(|&index| self.constant(index)).transpose()?;
        let value = self.builder.convolve(&source, weights, bias.as_ref(), window)?;
        self.activate(value, fused)
    }

    fn activate(&mut self, value: Value, fused: i8) -> Result<Value, ConvertError> {
        match fused {
            activation::NONE => Ok(value),
            activation::RELU => Ok(self.builder.elementwise("Relu", &value)),
            activation::RELU6 => Ok(self.builder.clip(&value, Some(0.0), Some(6.0))),
            other => Err(ConvertError::unsupported(format!("fused activation {other}"))),
        }
    }

    fn tensor(&self, index: i32) -> Result<Table<'a>, ConvertError> {
        let tensor = usize::try_from(index).ok().and_then(|index| self.tensors.get(index)).copied();
        tensor.ok_or_else(|| ConvertError::malformed(format!("no tensor {index}")))
    }

    fn shape(&self, index: i32) -> Result<Vec<usize>, ConvertError> {
        let sizes = self.tensor(index)?.i32s(0)?.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
        sizes.map_err(|_| ConvertError::malformed(format!("tensor {index} has a negative size")))
    }

    fn value(&self, index: i32) -> Result<&Value, ConvertError> {
        self.values
            .get(&index)
            .ok_or_else(|| ConvertError::unsupported(format!("tensor {index} is not computed before use")))
    }

    /// The bytes of a constant tensor and its element type.
    fn bytes(&self, index: i32) -> Result<(&'a [u8], i8), ConvertError> {
        let tensor = self.tensor(index)?;
        if tensor.field(6)?.is_some() {
            return Err(ConvertError::unsupported(format!("tensor {index} is sparse")));
        }
        let buffer = self.buffers.get(tensor.i32(2, 0)? as usize);
        let bytes = buffer.ok_or_else(|| ConvertError::malformed(format!("tensor {index} has no buffer")))?.bytes(0)?;
        Ok((bytes, tensor.i8(1, 0)?))
    }

    fn constant(&self, index: i32) -> Result<Array, ConvertError> {
        if let Some(array) = self.constants.get(&index) {
            return Ok(array.clone());
        }
        let data = match self.bytes(index)? {
            (bytes, tensor_type::FLOAT32) => {
                bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
            }
            (bytes, tensor_type::FLOAT16) => {
                bytes.as_chunks::<2>().0.iter().map(|&value| half_to_f32(u16::from_le_bytes(value))).collect()
            }
            (_, other) => {
                return Err(ConvertError::unsupported(format!("weights of element type {other}")));
            }
        };
        Array::new(self.shape(index)?, data)
    }

    fn paddings(&self, index: i32) -> Result<[[usize; 2]; 4], ConvertError> {
        let (bytes, tensor_type::INT32) = self.bytes(index)? else {
            return Err(ConvertError::unsupported("paddings that are not 32-bit integers"));
        };
        let sizes: Vec<usize> =
            bytes.as_chunks::<4>().0.iter().map(|&size| u32::from_le_bytes(size) as usize).collect();
        match sizes[..] {
            // Sizes near the limit of the type are negative numbers or nonsense, and would overflow later.
            [a, b, c, d, e, f, g, h] if sizes.iter().all(|&size| size < 1 << 16) => {
                Ok([[a, b], [c, d], [e, f], [g, h]])
            }
            _ => Err(ConvertError::unsupported(format!("paddings {sizes:?}"))),
        }
    }
}

/// A flatbuffer table: a position in the file whose 32-bit value leads back to the table's list of field offsets.
#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    file: &'a [u8],
    at: usize,
    /// Position of the list of field offsets; `None` for an absent table, whose fields all have their defaults.
    offsets: Option<usize>,
}

fn end_of_file() -> ConvertError {
    ConvertError::malformed("an offset leads out of the file")
}

fn read<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], ConvertError> {
    file.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or_else(end_of_file)
}

fn read_u32(file: &[u8], at: usize) -> Result<usize, ConvertError> {
    Ok(u32::from_le_bytes(read(file, at)?) as usize)
}

impl<'a> Table<'a> {
    fn root(file: &'a [u8]) -> Result<Self, ConvertError> {
        Self::at(file, read_u32(file, 0)?)
    }

    fn at(file: &'a [u8], at: usize) -> Result<Self, ConvertError> {
        let back = i64::from(i32::from_le_bytes(read(file, at)?));
        let offsets = usize::try_from(at as i64 - back).map_err(|_| end_of_file())?;
        Ok(Self { file, at, offsets: Some(offsets) })
    }

    /// Where the value of field `number` lies, if it is stored.
    fn field(&self, number: usize) -> Result<Option<usize>, ConvertError> {
        let Some(offsets) = self.offsets else {
            return Ok(None);
        };
        let length = usize::from(u16::from_le_bytes(read(self.file, offsets)?));
        let entry = number.checked_mul(2).and_then(|offset| offset.checked_add(4));
        let Some(entry) = entry.filter(|entry| entry + 2 <= length) else {
            return Ok(None);
        };
        let offset = usize::from(u16::from_le_bytes(read(self.file, offsets + entry)?));
        Ok((offset != 0).then_some(self.at + offset))
    }

    fn i8(&self, number: usize, default: i8) -> Result<i8, ConvertError> {
        self.field(number)?.map_or(Ok(default), |at| Ok(i8::from_le_bytes(read(self.file, at)?)))
    }

    fn i32(&self, number: usize, default: i32) -> Result<i32, ConvertError> {
        self.field(number)?.map_or(Ok(default), |at| Ok(i32::from_le_bytes(read(self.file, at)?)))
    }

    fn size(&self, number: usize, default: i32) -> Result<usize, ConvertError> {
        let value = self.i32(number, default)?;
        // No picture or kernel here is anywhere near this size; larger numbers would overflow later.
        let size = usize::try_from(value).ok().filter(|&size| size < 1 << 16);
        size.ok_or_else(|| ConvertError::malformed(format!("a size of {value}")))
    }

    /// Where field `number` points to, if it is stored.
    fn target(&self, number: usize) -> Result<Option<usize>, ConvertError> {
        self.field(number)?.map(|at| Ok(at + read_u32(self.file, at)?)).transpose()
    }

    /// The table in field `number`; an absent one answers with defaults.
    fn table(&self, number: usize) -> Result<Self, ConvertError> {
        match self.target(number)? {
            Some(at) => Self::at(self.file, at),
            None => Ok(Self { offsets: None, ..*self }),
        }
    }

    /// The `count × width` bytes of the vector in field `number`, empty if it is absent.
    fn vector(&self, number: usize, width: usize) -> Result<(usize, &'a [u8]), ConvertError> {
        let Some(at) = self.target(number)? else {
            return Ok((0, &[]));
        };
        let length = read_u32(self.file, at)?.checked_mul(width).ok_or_else(end_of_file)?;
        let end = (at + 4).checked_add(length).ok_or_else(end_of_file)?;
        Ok((at + 4, self.file.get(at + 4..end).ok_or_else(end_of_file)?))
    }

    fn bytes(&self, number: usize) -> Result<&'a [u8], ConvertError> {
        Ok(self.vector(number, 1)?.1)
    }

    fn string(&self, number: usize) -> Result<&'a str, ConvertError> {
        std::str::from_utf8(self.bytes(number)?).map_err(|_| ConvertError::malformed("a name that is not UTF-8"))
    }

    fn i32s(&self, number: usize) -> Result<Vec<i32>, ConvertError> {
        let (_, bytes) = self.vector(number, 4)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&value| i32::from_le_bytes(value)).collect())
    }

    fn tables(&self, number: usize) -> Result<Vec<Self>, ConvertError> {
        let (start, bytes) = self.vector(number, 4)?;
        let positions = bytes.as_chunks::<4>().0.iter().enumerate();
        positions
            .map(|(index, &offset)| Self::at(self.file, start + 4 * index + u32::from_le_bytes(offset) as usize))
            .collect()
    }

    /// The sliding window of convolution and pooling options: padding, horizontal and vertical stride are their first three
    /// fields; the two dilations stand at `dilation_field`.
    fn window(&self, kernel: [usize; 2], dilation_field: usize) -> Result<Window, ConvertError> {
        let padding = match self.i8(0, 0)? {
            0 => Padding::Same,
            1 => Padding::Valid,
            other => return Err(ConvertError::unsupported(format!("padding {other}"))),
        };
        let strides = [self.size(2, 0)?, self.size(1, 0)?];
        let vertical = dilation_field.saturating_add(1);
        let dilations = [self.size(vertical, 1)?, self.size(dilation_field, 1)?];
        Ok(Window { kernel, strides, dilations, padding })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::onnx::{GraphProto, ModelProto};
    use super::*;

    /// A flatbuffer in the making.
    enum Part {
        Table(Vec<(usize, Part)>),
        Byte(i8),
        Int(i32),
        Bytes(Vec<u8>),
        Ints(Vec<i32>),
        Tables(Vec<Part>),
    }

    /// Writes a part that others point to, and returns its position. Children follow their parents, as offsets demand.
    fn write(file: &mut Vec<u8>, part: &Part) -> usize {
        file.resize(file.len().next_multiple_of(4), 0);
        let patch = |file: &mut Vec<u8>, at: usize, child: &Part| {
            let position = write(file, child);
            file[at..at + 4].copy_from_slice(&((position - at) as u32).to_le_bytes());
        };
        match part {
            Part::Table(fields) => {
                let count = fields.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
                let offsets = file.len();
                file.extend((4 + 2 * count as u16).to_le_bytes());
                file.extend((4 + 4 * fields.len() as u16).to_le_bytes());
                for number in 0..count {
                    let place = fields.iter().position(|(field, _)| *field == number);
                    file.extend(place.map_or(0, |place| 4 + 4 * place as u16).to_le_bytes());
                }
                file.resize(file.len().next_multiple_of(4), 0);
                let table = file.len();
                file.extend(((table - offsets) as i32).to_le_bytes());
                for (_, value) in fields {
                    match value {
                        Part::Byte(value) => file.extend(i32::from(*value).to_le_bytes()),
                        Part::Int(value) => file.extend(value.to_le_bytes()),
                        _ => file.extend([0; 4]),
                    }
                }
                for (place, (_, value)) in fields.iter().enumerate() {
                    if !matches!(value, Part::Byte(_) | Part::Int(_)) {
                        patch(file, table + 4 + 4 * place, value);
                    }
                }
                table
            }
            Part::Bytes(bytes) => {
                let at = file.len();
                file.extend((bytes.len() as u32).to_le_bytes());
                file.extend(bytes);
                at
            }
            Part::Ints(values) => {
                let at = file.len();
                file.extend((values.len() as u32).to_le_bytes());
                file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                at
            }
            Part::Tables(tables) => {
                let at = file.len();
                file.extend((tables.len() as u32).to_le_bytes());
                file.resize(file.len() + 4 * tables.len(), 0);
                for (index, table) in tables.iter().enumerate() {
                    patch(file, at + 4 + 4 * index, table);
                }
                at
            }
            Part::Byte(_) | Part::Int(_) => panic!("scalars lie in their table"),
        }
    }

    fn tensor(name: &str, shape: &[i32], kind: i8, buffer: i32) -> Part {
        let fields = [Part::Ints(shape.to_vec()), Part::Byte(kind), Part::Int(buffer), Part::Bytes(name.into())];
        Part::Table(fields.into_iter().enumerate().collect())
    }

    fn operator(code: i32, inputs: &[i32], output: i32, options: Vec<(usize, Part)>) -> Part {
        Part::Table(vec![
            (0, Part::Int(code)),
            (1, Part::Ints(inputs.to_vec())),
            (2, Part::Ints(vec![output])),
            (4, Part::Table(options)),
        ])
    }

    /// input 4×4×1 → convolution 3×3 stride 2 "SAME", two filters, half-precision weights, RELU6 → pad one channel.
    fn sample() -> Vec<u8> {
        let halves: Vec<u8> = (0..18u16).flat_map(|index| (0x3c00 + index).to_le_bytes()).collect();
        let bias: Vec<u8> = [0.5f32, -0.5].iter().flat_map(|value| value.to_le_bytes()).collect();
        let paddings: Vec<u8> = [0i32, 0, 0, 0, 0, 0, 0, 1].iter().flat_map(|value| value.to_le_bytes()).collect();
        let buffer = |bytes: Vec<u8>| Part::Table(vec![(0, Part::Bytes(bytes))]);
        let code = |code: i32| Part::Table(vec![(0, Part::Byte(code as i8)), (3, Part::Int(code))]);
        let model = Part::Table(vec![
            (0, Part::Int(3)),
            (1, Part::Tables(vec![code(operator::DEQUANTIZE), code(operator::CONV_2D), code(operator::PAD)])),
            (
                2,
                Part::Tables(vec![Part::Table(vec![
                    (
                        0,
                        Part::Tables(vec![
                            tensor("picture", &[1, 4, 4, 1], tensor_type::FLOAT32, 0),
                            tensor("halves", &[2, 3, 3, 1], tensor_type::FLOAT16, 1),
                            tensor("weights", &[2, 3, 3, 1], tensor_type::FLOAT32, 0),
                            tensor("bias", &[2], tensor_type::FLOAT32, 2),
                            tensor("convolved", &[1, 2, 2, 2], tensor_type::FLOAT32, 0),
                            tensor("paddings", &[4, 2], tensor_type::INT32, 3),
                            tensor("result", &[1, 2, 2, 3], tensor_type::FLOAT32, 0),
                        ]),
                    ),
                    (1, Part::Ints(vec![0])),
                    (2, Part::Ints(vec![6])),
                    (
                        3,
                        Part::Tables(vec![
                            operator(0, &[1], 2, vec![]),
                            operator(
                                1,
                                &[0, 2, 3],
                                4,
                                vec![
                                    (0, Part::Byte(0)),
                                    (1, Part::Int(2)),
                                    (2, Part::Int(2)),
                                    (3, Part::Byte(activation::RELU6)),
                                ],
                            ),
                            operator(2, &[4, 5], 6, vec![]),
                        ]),
                    ),
                ])]),
            ),
            (4, Part::Tables(vec![buffer(vec![]), buffer(halves), buffer(bias), buffer(paddings)])),
        ]);
        let mut file = b"\0\0\0\0TFL3".to_vec();
        let root = write(&mut file, &model);
        file[..4].copy_from_slice(&(root as u32).to_le_bytes());
        file
    }

    fn graph(file: &[u8]) -> GraphProto {
        ModelProto::decode(convert(file).unwrap().as_slice()).unwrap().graph.unwrap()
    }

    #[test]
    fn a_small_network_is_converted() {
        let graph = graph(&sample());
        let operators: Vec<_> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["Transpose", "Conv", "Clip", "Pad", "Transpose"]);
        assert_eq!((graph.input[0].name.as_str(), graph.output[0].name.as_str()), ("picture", "result"));
        let convolution = &graph.node[1];
        assert_eq!(convolution.attribute("pads").unwrap().ints, [0, 0, 1, 1]);
        assert_eq!(convolution.attribute("strides").unwrap().ints, [2, 2]);
        assert_eq!(convolution.attribute("group").unwrap().i, Some(1));
        let weights = &graph.initializer[0];
        assert_eq!(weights.dims, [2, 1, 3, 3]);
        // 0x3c00 is 1, and each step of the last bit adds 2⁻¹⁰.
        assert_eq!(weights.widened_f32().unwrap()[17], 1.0 + 17.0 / 1024.0);
        let pads = graph.initializer.iter().find(|tensor| tensor.name == graph.node[3].input[1]).unwrap();
        assert_eq!(pads.to_i64().unwrap(), [0, 0, 0, 0, 0, 1, 0, 0], "channels come second in the converted graph");
        let sizes = graph.output[0].clone().dims_mut().unwrap().iter().map(|dim| dim.dim_value).collect::<Vec<_>>();
        assert_eq!(sizes, [None, Some(2), Some(2), Some(3)]);
    }

    #[test]
    fn damaged_files_are_refused_without_a_panic() {
        let whole = sample();
        let mut refused = 0;
        for length in 0..whole.len() {
            refused += usize::from(convert(&whole[..length]).is_err());
        }
        assert!(refused > whole.len() / 2, "{refused} of {}", whole.len());
        for at in 0..whole.len() {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                // Some of these files are still sound; none may end the process.
                let _ = convert(&damaged);
            }
        }
        assert!(convert(b"TFL3TFL3TFL3").is_err());
    }

    #[test]
    fn unknown_operators_are_named() {
        let mut file = sample();
        // The only 34 (PAD) that stands where an operator code stands.
        let code = file.windows(4).rposition(|bytes| bytes == 34i32.to_le_bytes()).unwrap();
        file[code] = 99;
        let error = convert(&file).unwrap_err();
        assert_eq!(error, ConvertError::unsupported("TensorFlow Lite operator 99"));
    }
}
