//! The part of the ONNX file format that the converters read and write.
//!
//! Field numbers are those of `onnx/onnx.proto` (ONNX 1.18). Fields that are missing here are documentation and annotations;
//! fields that would change what a model computes and that no converter handles (functions, sparse and external weights,
//! sub-graphs) are declared, so that `fold` can refuse a file that uses them instead of losing them in silence.

use prost::Message;

use super::ConvertError;

/// `AttributeProto.AttributeType` values.
mod attribute_type {
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const STRING: i32 = 3;
    pub const INTS: i32 = 7;
}

/// `TensorProto.DataType` values.
pub mod data_type {
    pub const FLOAT: i32 = 1;
    pub const UINT8: i32 = 2;
    pub const INT8: i32 = 3;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Free notes, such as the characters of a text recogniser.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Opaque>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<Opaque>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// The scalar fields are optional because ONNX Runtime tells an absent value from a zero.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    pub g: Option<Opaque>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Opaque>,
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// Either `dim_value` or `dim_param`, never both (a oneof in the schema).
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

/// A message whose presence is all that is asked for.
#[derive(Clone, PartialEq, Message)]
pub struct Opaque {}

impl AttributeProto {
    pub fn float(name: &str, value: f32) -> Self {
        Self { name: name.into(), f: Some(value), r#type: attribute_type::FLOAT, ..Self::default() }
    }

    pub fn int(name: &str, value: i64) -> Self {
        Self { name: name.into(), i: Some(value), r#type: attribute_type::INT, ..Self::default() }
    }

    pub fn string(name: &str, value: &str) -> Self {
        Self { name: name.into(), s: Some(value.into()), r#type: attribute_type::STRING, ..Self::default() }
    }

    pub fn ints(name: &str, values: &[i64]) -> Self {
        Self { name: name.into(), ints: values.to_vec(), r#type: attribute_type::INTS, ..Self::default() }
    }
}

impl NodeProto {
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }
}

impl DimensionProto {
    pub fn fixed(value: i64) -> Self {
        Self { dim_value: Some(value), dim_param: None }
    }

    /// A dimension that each run may choose; equal names mean equal sizes.
    pub fn free(name: &str) -> Self {
        Self { dim_value: None, dim_param: Some(name.into()) }
    }
}

impl ValueInfoProto {
    pub fn f32(name: &str, dims: Vec<DimensionProto>) -> Self {
        let shape = Some(TensorShapeProto { dim: dims });
        let tensor_type = Some(TensorTypeProto { elem_type: data_type::FLOAT, shape });
        Self { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
    }

    /// The dimensions, if the value is a tensor of stated rank.
    pub fn dims_mut(&mut self) -> Option<&mut Vec<DimensionProto>> {
        self.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut().map(|shape| &mut shape.dim)
    }
}

impl TensorProto {
    pub fn f32(name: &str, dims: &[i64], values: impl IntoIterator<Item = f32>) -> Self {
        let raw = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: data_type::FLOAT,
            raw_data: Some(raw),
            ..Self::default()
        }
    }

    pub fn i64(name: &str, values: &[i64]) -> Self {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims = vec![values.len() as i64];
        Self { name: name.into(), dims, data_type: data_type::INT64, raw_data: Some(raw), ..Self::default() }
    }

    /// Sizes of the dimensions.
    ///
    /// # Errors
    /// [`ConvertError::Malformed`] if one is negative or their product overflows.
    pub fn shape(&self) -> Result<Vec<usize>, ConvertError> {
        let shape = self.dims.iter().map(|&size| usize::try_from(size)).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| ConvertError::malformed(format!("tensor {} has a negative size", self.name)))?;
        let fits = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).is_some();
        fits.then_some(shape).ok_or_else(|| ConvertError::malformed(format!("tensor {} is too large", self.name)))
    }

    /// The values of a float or 8- or 32-bit integer tensor as `f32`, in row-major order.
    ///
    /// # Errors
    /// [`ConvertError`] for other types and if the number of values differs from the shape.
    pub fn widened_f32(&self) -> Result<Vec<f32>, ConvertError> {
        let raw = self.raw_data.as_deref();
        let values: Vec<f32> = match (self.data_type, raw) {
            (data_type::FLOAT, Some(raw)) => chunks(raw).map(f32::from_le_bytes).collect(),
            (data_type::FLOAT, None) => self.float_data.clone(),
            (data_type::INT8, Some(raw)) => raw.iter().map(|&byte| f32::from(byte.cast_signed())).collect(),
            (data_type::UINT8, Some(raw)) => raw.iter().map(|&byte| f32::from(byte)).collect(),
            (data_type::INT32, Some(raw)) => chunks(raw).map(|bytes| i32::from_le_bytes(bytes) as f32).collect(),
            (data_type::INT8 | data_type::UINT8 | data_type::INT32, None) => {
                self.int32_data.iter().map(|&value| value as f32).collect()
            }
            (other, _) => {
                return Err(ConvertError::unsupported(format!("tensor {} has element type {other}", self.name)));
            }
        };
        self.check_count(values.len())?;
        Ok(values)
    }

    /// The values of an `i64` tensor.
    ///
    /// # Errors
    /// [`ConvertError`] for other types and if the number of values differs from the shape.
    pub fn to_i64(&self) -> Result<Vec<i64>, ConvertError> {
        let values: Vec<i64> = match (self.data_type, self.raw_data.as_deref()) {
            (data_type::INT64, Some(raw)) => chunks(raw).map(i64::from_le_bytes).collect(),
            (data_type::INT64, None) => self.int64_data.clone(),
            (other, _) => {
                return Err(ConvertError::unsupported(format!("tensor {} has element type {other}", self.name)));
            }
        };
        self.check_count(values.len())?;
        Ok(values)
    }

    fn check_count(&self, found: usize) -> Result<(), ConvertError> {
        let stated: usize = self.shape()?.iter().product();
        if self.data_location != 0 {
            return Err(ConvertError::unsupported(format!("tensor {} lies in another file", self.name)));
        }
        if stated != found {
            let name = &self.name;
            return Err(ConvertError::malformed(format!("tensor {name} states {stated} values and holds {found}")));
        }
        Ok(())
    }
}

/// Full chunks of `N` bytes; a rest is caught by the comparison of counts.
fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_encoding_and_decoding() {
        let tensor = TensorProto::f32("w", &[2, 1], [1.5, -0.25]);
        let node = NodeProto {
            op_type: "Conv".into(),
            attribute: vec![AttributeProto::int("group", 0), AttributeProto::ints("pads", &[0, 1, 0, 1])],
            ..NodeProto::default()
        };
        let graph = GraphProto { node: vec![node], initializer: vec![tensor], ..GraphProto::default() };
        let model = ModelProto { ir_version: 8, graph: Some(graph), ..ModelProto::default() };
        let read = ModelProto::decode(model.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read, model);
        let graph = read.graph.unwrap();
        assert_eq!(graph.initializer[0].widened_f32().unwrap(), [1.5, -0.25]);
        assert_eq!(graph.node[0].attribute("group").unwrap().i, Some(0), "an explicit zero must not vanish");
    }

    #[test]
    fn a_count_that_differs_from_the_shape_is_refused() {
        let mut tensor = TensorProto::f32("w", &[3], [1.0, 2.0]);
        assert!(matches!(tensor.widened_f32(), Err(ConvertError::Malformed(_))));
        tensor.dims = vec![-2];
        assert!(matches!(tensor.widened_f32(), Err(ConvertError::Malformed(_))));
        tensor.dims = vec![i64::MAX, i64::MAX];
        assert!(matches!(tensor.widened_f32(), Err(ConvertError::Malformed(_))));
        tensor.dims = vec![2];
        tensor.data_location = 1;
        assert!(matches!(tensor.widened_f32(), Err(ConvertError::Unsupported(_))));
    }
}
