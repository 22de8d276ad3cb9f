//! TensorFlow.js graph models (a JSON graph and one binary file of weights) to ONNX.
//!
//! Called by `convert::convert`. Knows the operators that the face description model uses. Half-precision weights are
//! widened; other quantisations are refused. Source: the graph is TensorFlow's `GraphDef` as JSON, the list of weights is
//! described in `tfjs-core/src/io/types.ts`.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::ConvertError;
use super::builder::{Arithmetic, Array, Builder, Padding, Value, Window, half_to_f32};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    signature: Signature,
    model_topology: Topology,
    weights_manifest: Vec<WeightGroup>,
}

#[derive(Deserialize)]
struct Signature {
    /// Sorted by name, so that the result does not depend on the order in the file.
    outputs: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Topology {
    node: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    op: String,
    #[serde(default)]
    input: Vec<String>,
    #[serde(default)]
    attr: HashMap<String, Attribute>,
}

/// A `tensorflow.AttrValue`; 64-bit integers are JSON strings and byte strings are base64.
#[derive(Deserialize, Default)]
struct Attribute {
    s: Option<String>,
    b: Option<bool>,
    list: Option<List>,
    shape: Option<TensorShape>,
}

#[derive(Deserialize, Default)]
struct List {
    #[serde(default)]
    s: Vec<String>,
    #[serde(default)]
    i: Vec<String>,
}

#[derive(Deserialize)]
struct TensorShape {
    #[serde(default)]
    dim: Vec<Dimension>,
}

#[derive(Deserialize)]
struct Dimension {
    size: String,
}

#[derive(Deserialize)]
struct WeightGroup {
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    dtype: String,
}

/// Converts the graph. Input and outputs keep their names and their channels-last layout.
///
/// # Errors
/// [`ConvertError`] if a file is malformed or uses another operator, padding or kind of weights.
pub fn convert(graph: &[u8], weights: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let model: Model = serde_json::from_slice(graph).map_err(|error| ConvertError::malformed(error.to_string()))?;
    let [group] = model.weights_manifest.as_slice() else {
        return Err(ConvertError::unsupported("weights in several files"));
    };
    let nodes: HashMap<&str, &Node> = model.model_topology.node.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut conversion =
        Conversion { builder: Builder::default(), weights: read_weights(group, weights)?, values: HashMap::new() };
    for node in in_order(&model.model_topology.node, &nodes)? {
        if let Some(value) = conversion.node(node)? {
            conversion.values.insert(&node.name, value);
        }
    }
    for output in model.signature.outputs.keys() {
        let name = base_name(output);
        let value = conversion.value(name)?.clone();
        conversion.builder.output(name, &value);
    }
    Ok(conversion.builder.finish("vouch tfjs"))
}

/// `name:0` and `^name` both mean the node `name`.
fn base_name(reference: &str) -> &str {
    let reference = reference.strip_prefix('^').unwrap_or(reference);
    reference.split_once(':').map_or(reference, |(name, _)| name)
}

/// The nodes in an order in which each comes after its inputs.
fn in_order<'a>(all: &'a [Node], by_name: &HashMap<&str, &'a Node>) -> Result<Vec<&'a Node>, ConvertError> {
    let mut order = Vec::with_capacity(all.len());
    // Absent: not seen; false: its inputs are being visited; true: done.
    let mut done: HashMap<&str, bool> = HashMap::new();
    for start in all {
        let mut stack = vec![start];
        while let Some(&node) = stack.last() {
            match done.get(node.name.as_str()) {
                Some(true) => {
                    stack.pop();
                }
                Some(false) => {
                    done.insert(&node.name, true);
                    order.push(node);
                    stack.pop();
                }
                None => {
                    done.insert(&node.name, false);
                    for reference in &node.input {
                        let name = base_name(reference);
                        let input = *by_name
                            .get(name)
                            .ok_or_else(|| ConvertError::malformed(format!("{} needs {name}", node.name)))?;
                        match done.get(name) {
                            None => stack.push(input),
                            Some(true) => {}
                            Some(false) => {
                                return Err(ConvertError::malformed(format!("{name} depends on itself")));
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(order)
}

/// The float weights by name; integer ones (axes, which the converter knows) are stepped over.
fn read_weights(group: &WeightGroup, mut bytes: &[u8]) -> Result<HashMap<String, Array>, ConvertError> {
    let mut weights = HashMap::new();
    for weight in &group.weights {
        let stored = weight.quantization.as_ref().map_or(weight.dtype.as_str(), |quantization| &quantization.dtype);
        let width = match stored {
            "float16" => 2,
            "float32" | "int32" => 4,
            other => {
                return Err(ConvertError::unsupported(format!("weights stored as {other}")));
            }
        };
        let length = weight.shape.iter().try_fold(width, |product: usize, &size| product.checked_mul(size));
        let (raw, rest) = length
            .and_then(|length| bytes.split_at_checked(length))
            .ok_or_else(|| ConvertError::malformed(format!("the weights end before {}", weight.name)))?;
        bytes = rest;
        let data: Vec<f32> = match stored {
            "float16" => raw.as_chunks::<2>().0.iter().map(|&value| half_to_f32(u16::from_le_bytes(value))).collect(),
            "float32" => raw.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
            _ => raw.as_chunks::<4>().0.iter().map(|&value| i32::from_le_bytes(value) as f32).collect(),
        };
        weights.insert(weight.name.clone(), Array::new(weight.shape.clone(), data)?);
    }
    if !bytes.is_empty() {
        return Err(ConvertError::malformed(format!("{} bytes are left after the last weight", bytes.len())));
    }
    Ok(weights)
}

struct Conversion<'a> {
    builder: Builder,
    weights: HashMap<String, Array>,
    values: HashMap<&'a str, Value>,
}

impl Conversion<'_> {
    /// The value that a node computes; `None` for constants.
    fn node(&mut self, node: &Node) -> Result<Option<Value>, ConvertError> {
        let value = match node.op.as_str() {
            "Const" => return Ok(None),
            "Placeholder" => self.placeholder(node)?,
            "Conv2D" | "DepthwiseConv2dNative" => self.convolve(node)?,
            "Add" | "AddV2" => self.arithmetic(node, Arithmetic::Add)?,
            "Mul" => self.arithmetic(node, Arithmetic::Mul)?,
            "Minimum" => {
                let (input, limit) = (self.input(node, 0)?, self.scalar(node, 1)?);
                self.builder.clip(&input, None, Some(limit))
            }
            "Maximum" => {
                let (input, limit) = (self.input(node, 0)?, self.scalar(node, 1)?);
                self.builder.clip(&input, Some(limit), None)
            }
            operator @ ("Relu" | "Sigmoid") => {
                let input = self.input(node, 0)?;
                self.builder.elementwise(operator, &input)
            }
            "Softmax" => {
                let input = self.input(node, 0)?;
                self.builder.softmax(&input)?
            }
            "Mean" => {
                let axes = self.weight(node, 1)?;
                if axes.data != [1.0, 2.0] || node.flag("keep_dims") {
                    return Err(ConvertError::unsupported(format!(
                        "{}: a mean over other than height and width",
                        node.name
                    )));
                }
                let input = self.input(node, 0)?;
                self.builder.mean_over_picture(&input)?
            }
            "_FusedMatMul" => self.fully_connect(node)?,
            other => {
                return Err(ConvertError::unsupported(format!("TensorFlow.js operator {other}")));
            }
        };
        Ok(Some(value))
    }

    fn placeholder(&mut self, node: &Node) -> Result<Value, ConvertError> {
        let dims = node.attr.get("shape").and_then(|attribute| attribute.shape.as_ref()).map(|shape| &shape.dim);
        let sizes: Vec<Option<usize>> = dims.into_iter().flatten().map(|dim| dim.size.parse().ok()).collect();
        let [_, Some(height), Some(width), Some(channels)] = sizes[..] else {
            return Err(ConvertError::unsupported(format!("{}: an input that is not an image", node.name)));
        };
        Ok(self.builder.input(&node.name, height, width, channels))
    }

    fn convolve(&mut self, node: &Node) -> Result<Value, ConvertError> {
        let weights = self.weight(node, 1)?;
        let [kernel_height, kernel_width, inputs, multiplier] = weights.shape[..] else {
            return Err(ConvertError::malformed(format!("{}: weights of shape {:?}", node.name, weights.shape)));
        };
        // The source has [height, width, inputs, outputs], or [height, width, channels, multiplier] where each channel is
        // convolved by itself.
        let turned = if node.op == "Conv2D" {
            weights.transposed([3, 2, 0, 1])?
        } else {
            let mut turned = weights.transposed([2, 3, 0, 1])?;
            turned.shape = vec![inputs.saturating_mul(multiplier), 1, kernel_height, kernel_width];
            turned
        };
        let padding = match node.text("padding")?.as_str() {
            "SAME" => Padding::Same,
            "VALID" => Padding::Valid,
            other => {
                return Err(ConvertError::unsupported(format!("{}: padding {other}", node.name)));
            }
        };
        if node.text("data_format")? != "NHWC" {
            return Err(ConvertError::unsupported(format!("{}: channels first", node.name)));
        }
        let window = Window {
            kernel: [kernel_height, kernel_width],
            strides: node.middle_pair("strides")?,
            dilations: node.middle_pair("dilations")?,
            padding,
        };
        let input = self.input(node, 0)?;
        self.builder.convolve(&input, &turned, None, window)
    }

    fn arithmetic(&mut self, node: &Node, operator: Arithmetic) -> Result<Value, ConvertError> {
        let left = self.input(node, 0)?;
        match self.weight(node, 1) {
            Ok(constant) => self.builder.arithmetic_constant(operator, &left, &constant),
            Err(_) => {
                let right = self.input(node, 1)?;
                self.builder.arithmetic(operator, &left, &right)
            }
        }
    }

    fn fully_connect(&mut self, node: &Node) -> Result<Value, ConvertError> {
        if node.flag("transpose_a") || node.flag("transpose_b") {
            return Err(ConvertError::unsupported(format!("{}: transposed operands", node.name)));
        }
        let (input, weights, bias) = (self.input(node, 0)?, self.weight(node, 1)?, self.weight(node, 2)?);
        let value = self.builder.fully_connect(&input, &weights, Some(&bias))?;
        let fused = node.attr.get("fused_ops").and_then(|attribute| attribute.list.as_ref());
        let fused = fused.map_or(Ok(Vec::new()), |list| list.s.iter().map(|text| decode(text)).collect())?;
        match fused.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["BiasAdd"] => Ok(value),
            ["BiasAdd", "Relu"] => Ok(self.builder.elementwise("Relu", &value)),
            _ => Err(ConvertError::unsupported(format!("{}: fused operators {fused:?}", node.name))),
        }
    }

    fn value(&self, name: &str) -> Result<&Value, ConvertError> {
        self.values.get(name).ok_or_else(|| ConvertError::unsupported(format!("{name} is not computed by the graph")))
    }

    fn input(&self, node: &Node, position: usize) -> Result<Value, ConvertError> {
        self.value(node.input_name(position)?).cloned()
    }

    fn weight(&self, node: &Node, position: usize) -> Result<Array, ConvertError> {
        let name = node.input_name(position)?;
        let weight = self.weights.get(name).cloned();
        weight.ok_or_else(|| ConvertError::unsupported(format!("{}: {name} is not a constant", node.name)))
    }

    fn scalar(&self, node: &Node, position: usize) -> Result<f32, ConvertError> {
        match self.weight(node, position)?.data[..] {
            [value] => Ok(value),
            _ => Err(ConvertError::unsupported(format!("{}: more than one limit", node.name))),
        }
    }
}

impl Node {
    fn input_name(&self, position: usize) -> Result<&str, ConvertError> {
        let name = self.input.get(position).map(|reference| base_name(reference));
        name.ok_or_else(|| ConvertError::malformed(format!("{} lacks an input", self.name)))
    }

    fn flag(&self, name: &str) -> bool {
        self.attr.get(name).and_then(|attribute| attribute.b).unwrap_or(false)
    }

    fn text(&self, name: &str) -> Result<String, ConvertError> {
        let text = self.attr.get(name).and_then(|attribute| attribute.s.as_deref());
        decode(text.ok_or_else(|| ConvertError::malformed(format!("{} lacks {name}", self.name)))?)
    }

    /// The vertical and horizontal values of a list for `[batch, height, width, channels]`.
    fn middle_pair(&self, name: &str) -> Result<[usize; 2], ConvertError> {
        let list = self.attr.get(name).and_then(|attribute| attribute.list.as_ref()).map(|list| &list.i);
        let sizes: Vec<Option<usize>> = list.into_iter().flatten().map(|size| size.parse().ok()).collect();
        match sizes[..] {
            // Larger numbers are nonsense here and would overflow later.
            [Some(1), Some(vertical), Some(horizontal), Some(1)] if vertical.max(horizontal) < 1 << 16 => {
                Ok([vertical, horizontal])
            }
            _ => Err(ConvertError::unsupported(format!("{}: {name} {sizes:?}", self.name))),
        }
    }
}

fn decode(text: &str) -> Result<String, ConvertError> {
    let bytes = STANDARD.decode(text).map_err(|_| ConvertError::malformed("an attribute that is not base64"))?;
    String::from_utf8(bytes).map_err(|_| ConvertError::malformed("an attribute that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::super::onnx::ModelProto;
    use super::*;

    /// A 4×4×1 picture, one depthwise 1×1 filter, limits of 0 and 6, the mean, one fully connected column.
    fn sample() -> (serde_json::Value, Vec<u8>) {
        let constant = |name: &str| json!({ "name": name, "op": "Const" });
        let text = |text: &str| json!({ "s": STANDARD.encode(text) });
        let ones = json!({ "list": { "i": ["1", "1", "1", "1"] } });
        let half = |name: &str, shape: &[usize]| json!({ "name": name, "shape": shape, "dtype": "float32", "quantization": { "dtype": "float16" } });
        // Not in the order of computation, as in real files.
        let graph = json!({
            "signature": { "outputs": { "column:0": {}, "mean": {} } },
            "modelTopology": { "node": [
                { "name": "column", "op": "_FusedMatMul", "input": ["mean", "matrix", "bias"],
                  "attr": { "fused_ops": { "list": { "s": [STANDARD.encode("BiasAdd")] } } } },
                { "name": "mean", "op": "Mean", "input": ["low", "axes"], "attr": { "keep_dims": { "b": false } } },
                { "name": "low", "op": "Maximum", "input": ["high:0", "zero"] },
                { "name": "high", "op": "Minimum", "input": ["filtered", "six"] },
                { "name": "filtered", "op": "DepthwiseConv2dNative", "input": ["picture", "filter"], "attr": {
                  "strides": ones, "dilations": ones, "padding": text("SAME"), "data_format": text("NHWC") } },
                { "name": "picture", "op": "Placeholder", "attr": { "shape": { "shape": { "dim": [
                  { "size": "-1" }, { "size": "4" }, { "size": "4" }, { "size": "1" } ] } } } },
                constant("filter"), constant("six"), constant("zero"), constant("axes"), constant("matrix"), constant("bias"),
            ] },
            "weightsManifest": [ { "paths": ["x.bin"], "weights": [
                half("filter", &[1, 1, 1, 1]), half("six", &[]), half("zero", &[]), half("matrix", &[1, 1]), half("bias", &[1]),
                { "name": "axes", "shape": [2], "dtype": "int32" },
            ] } ],
        });
        // 2, 6, 0, 1, 0.5 as halves, then 1 and 2.
        let mut weights: Vec<u8> =
            [0x4000u16, 0x4600, 0x0000, 0x3c00, 0x3800].iter().flat_map(|value| value.to_le_bytes()).collect();
        weights.extend([1i32, 2].iter().flat_map(|value| value.to_le_bytes()));
        (graph, weights)
    }

    #[test]
    fn a_small_graph_is_put_in_order_and_converted() {
        let (graph, weights) = sample();
        let converted = convert(graph.to_string().as_bytes(), &weights).unwrap();
        let graph = ModelProto::decode(converted.as_slice()).unwrap().graph.unwrap();
        let operators: Vec<_> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["Transpose", "Conv", "Clip", "Clip", "ReduceMean", "Gemm", "Identity", "Identity"]);
        let outputs: Vec<_> = graph.output.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(outputs, ["column", "mean"]);
        let values: Vec<f32> = graph.initializer.iter().flat_map(|tensor| tensor.widened_f32().unwrap()).collect();
        assert_eq!(values, [2.0, 6.0, 0.0, 1.0, 0.5]);
        assert_eq!(graph.node[2].input[1], "", "a limit from above has no lower one");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let (graph, weights) = sample();
        let refuse = |path: &str, value: serde_json::Value| {
            let mut graph = graph.clone();
            *graph.pointer_mut(path).unwrap() = value;
            convert(graph.to_string().as_bytes(), &weights).unwrap_err().to_string()
        };
        let cases = [
            ("/modelTopology/node/3/op", json!("Erf"), "operator Erf"),
            ("/modelTopology/node/1/attr/keep_dims/b", json!(true), "a mean over other than"),
            ("/modelTopology/node/4/attr/padding/s", json!("RVhQTElDSVQ="), "padding EXPLICIT"),
            ("/modelTopology/node/4/attr/strides/list/i/1", json!("many"), "strides"),
            ("/modelTopology/node/3/input/0", json!("nothing"), "needs nothing"),
            ("/modelTopology/node/3/input/0", json!("mean"), "depends on itself"),
            ("/weightsManifest/0/weights/0/quantization/dtype", json!("uint8"), "stored as uint8"),
            ("/weightsManifest/0/weights/0/shape", json!([1, 1, 1, 2]), "the weights end"),
        ];
        for (path, value, reason) in cases {
            let message = refuse(path, value);
            assert!(message.contains(reason), "{path}: {message}");
        }
        let longer = [weights.as_slice(), &[0, 0]].concat();
        assert!(convert(graph.to_string().as_bytes(), &longer).is_err());
        assert!(convert(b"{", &weights).is_err());
    }
}
