//! Makes an ONNX file plain fp32 with a free batch dimension.
//!
//! Quantised weights (`DequantizeLinear` of a constant, whole, per axis or in blocks) are multiplied out once, weights that are
//! declared as graph inputs become constants, shapes that fix the batch to one are loosened, and leftovers of training
//! (second and later outputs of `BatchNormalization`, ratio inputs of `Dropout`) are dropped. What the graph computes for one
//! item does not change. Called by `convert::convert`. Source: the ONNX operator specifications, in particular
//! `DequantizeLinear-21` for the blocked form.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::ConvertError;
use super::onnx::{DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// Version 10 of the file format is the first that knows operator set 21, the newest among the sources.
const IR_VERSION: i64 = 10;

/// Which dimensions of the input each run may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeDimensions {
    Batch,
    /// Also height and width: for a fully convolutional NCHW graph whose outputs are `[batch, anchors, values]`.
    BatchAndSize,
}

/// # Errors
/// [`ConvertError`] if the file is malformed or uses functions, sparse or external weights, sub-graphs or operators from
/// another domain than ONNX's own.
pub fn fold(source: &[u8], free: FreeDimensions) -> Result<Vec<u8>, ConvertError> {
    let model = ModelProto::decode(source).map_err(|error| ConvertError::malformed(error.to_string()))?;
    if !model.functions.is_empty() {
        return Err(ConvertError::unsupported("local functions"));
    }
    let opset_import: Vec<_> = model.opset_import.into_iter().filter(|set| is_onnx_domain(&set.domain)).collect();
    if opset_import.is_empty() {
        return Err(ConvertError::malformed("no operator set is named"));
    }
    let graph = model.graph.ok_or_else(|| ConvertError::malformed("no graph"))?;
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "vouch fold".into(),
        graph: Some(fold_graph(graph, free)?),
        opset_import,
        metadata_props: Vec::new(),
        functions: Vec::new(),
    };
    Ok(model.encode_to_vec())
}

fn fold_graph(graph: GraphProto, free: FreeDimensions) -> Result<GraphProto, ConvertError> {
    if !graph.sparse_initializer.is_empty() {
        return Err(ConvertError::unsupported("sparse weights"));
    }
    let mut constants: BTreeMap<String, TensorProto> =
        graph.initializer.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in graph.node {
        check_node(&node)?;
        if let Some(mut value) = constant_value(&node, &constants)? {
            value.name = output_of(&node)?.to_owned();
            constants.insert(value.name.clone(), value);
            continue;
        }
        match node.op_type.as_str() {
            "Reshape" => {
                if let Some(shape) = free_batch(&node, &constants)? {
                    node.input[1] = shape.name.clone();
                    constants.insert(shape.name.clone(), shape);
                }
            }
            "Dropout" => node.input.truncate(1),
            "BatchNormalization" => {
                node.attribute.retain(|attribute| ["epsilon", "momentum"].contains(&attribute.name.as_str()));
                node.output.truncate(1);
            }
            _ => {}
        }
        nodes.push(node);
    }

    let used: BTreeSet<&str> = nodes.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    let mut input: Vec<ValueInfoProto> = graph.input;
    input.retain(|value| used.contains(value.name.as_str()) && !constants.contains_key(&value.name));
    let initializer: Vec<TensorProto> = used.iter().filter_map(|&name| constants.get(name)).cloned().collect();
    let mut output = graph.output;
    free_dimensions(&mut input, &mut output, free)?;
    Ok(GraphProto { node: nodes, name: "folded".into(), initializer, input, output, sparse_initializer: Vec::new() })
}

fn is_onnx_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

fn check_node(node: &NodeProto) -> Result<(), ConvertError> {
    if !is_onnx_domain(&node.domain) {
        return Err(ConvertError::unsupported(format!("operator {} of domain {}", node.op_type, node.domain)));
    }
    if node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty()) {
        return Err(ConvertError::unsupported(format!("operator {} with a sub-graph", node.op_type)));
    }
    Ok(())
}

fn output_of(node: &NodeProto) -> Result<&str, ConvertError> {
    match node.output.as_slice() {
        [output] => Ok(output),
        outputs => Err(ConvertError::malformed(format!("{} with {} outputs", node.op_type, outputs.len()))),
    }
}

/// The value of a node that depends on constants alone, for the three operators that the sources use this way.
fn constant_value(
    node: &NodeProto,
    constants: &BTreeMap<String, TensorProto>,
) -> Result<Option<TensorProto>, ConvertError> {
    let constant = |index: usize| node.input.get(index).and_then(|name| constants.get(name));
    match node.op_type.as_str() {
        "Constant" => {
            let value = node.attribute("value").and_then(|attribute| attribute.t.clone());
            value.map(Some).ok_or_else(|| ConvertError::unsupported("Constant without a tensor value"))
        }
        "DequantizeLinear" => {
            let Some(quantised) = constant(0) else {
                return Ok(None);
            };
            let scale =
                constant(1).ok_or_else(|| ConvertError::unsupported("DequantizeLinear with a computed scale"))?;
            let zero_point = match node.input.get(2).map(String::as_str) {
                None | Some("") => None,
                Some(_) => Some(
                    constant(2)
                        .ok_or_else(|| ConvertError::unsupported("DequantizeLinear with a computed zero point"))?,
                ),
            };
            let integer = |name, default| node.attribute(name).and_then(|attribute| attribute.i).unwrap_or(default);
            dequantize(quantised, scale, zero_point, integer("axis", 1), integer("block_size", 0)).map(Some)
        }
        "Reshape" => match (constant(0), constant(1)) {
            (Some(data), Some(shape)) => reshaped(data, &shape.to_i64()?).map(Some),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// `(x − zero_point) × scale` in `f32`, as the operator defines it.
///
/// `scale` has one value, one per index of `axis`, or, in the blocked form, the shape of `x` with `axis` divided by
/// `block_size` and rounded up.
fn dequantize(
    quantised: &TensorProto,
    scale: &TensorProto,
    zero_point: Option<&TensorProto>,
    axis: i64,
    block_size: i64,
) -> Result<TensorProto, ConvertError> {
    let name = &quantised.name;
    let shape = quantised.shape()?;
    let values = quantised.widened_f32()?;
    let scale_shape = scale.shape()?;
    let scales = scale.widened_f32()?;
    let zero_points = match zero_point {
        Some(tensor) => tensor.widened_f32()?,
        None => vec![0.0; scales.len()],
    };
    if zero_points.len() != scales.len() {
        return Err(ConvertError::malformed(format!("{name}: scale and zero point differ in shape")));
    }
    let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
    let size = usize::try_from(axis).ok().and_then(|axis| shape.get(axis)).copied();
    let (axis, size) = match size {
        Some(size) => (axis as usize, size),
        // One scale for the whole tensor makes the axis meaningless, and it may then lie outside.
        None if scales.len() == 1 => (0, shape.first().copied().unwrap_or(1)),
        None => {
            return Err(ConvertError::malformed(format!("{name}: axis {axis} of {} dimensions", shape.len())));
        }
    };
    let inner: usize = shape.iter().skip(axis + 1).product();
    let block =
        usize::try_from(block_size).map_err(|_| ConvertError::malformed(format!("{name}: block size {block_size}")))?;
    let mut blocked_shape = shape.clone();
    if block > 0 && axis < blocked_shape.len() {
        blocked_shape[axis] = size.div_ceil(block);
    }
    let blocks = size.div_ceil(block.max(1));
    let index_of: Box<dyn Fn(usize) -> usize> = if block > 0 {
        if scale_shape != blocked_shape {
            return Err(ConvertError::malformed(format!("{name}: scales {scale_shape:?}, expected {blocked_shape:?}")));
        }
        Box::new(move |index| {
            let (outer, along, within) = (index / (size * inner), index / inner % size, index % inner);
            (outer * blocks + along / block) * inner + within
        })
    } else if scales.len() == 1 {
        Box::new(|_| 0)
    } else if scale_shape == [size] {
        Box::new(move |index| index / inner % size)
    } else {
        return Err(ConvertError::malformed(format!("{name}: {} scales for an axis of {size}", scales.len())));
    };
    let folded = values.iter().enumerate().map(|(index, value)| {
        let at = index_of(index);
        (value - zero_points[at]) * scales[at]
    });
    Ok(TensorProto::f32(name, &quantised.dims, folded))
}

/// A constant in another shape, with the operator's meaning of 0 (copy the size) and −1 (whatever is left).
fn reshaped(data: &TensorProto, target: &[i64]) -> Result<TensorProto, ConvertError> {
    let total: i64 = data.shape()?.iter().product::<usize>() as i64;
    let wrong = || ConvertError::malformed(format!("tensor {} of {total} values cannot become {target:?}", data.name));
    let mut dims = Vec::with_capacity(target.len());
    for (index, &size) in target.iter().enumerate() {
        dims.push(if size == 0 { *data.dims.get(index).ok_or_else(wrong)? } else { size });
    }
    let known = dims.iter().filter(|&&size| size != -1).try_fold(1i64, |product, &size| product.checked_mul(size));
    let known = known.filter(|&known| known > 0).ok_or_else(wrong)?;
    for size in &mut dims {
        if *size == -1 {
            *size = total / known;
        }
    }
    let product = dims.iter().try_fold(1i64, |product, &size| product.checked_mul(size)).ok_or_else(wrong)?;
    if product != total || dims.iter().any(|&size| size < 0) {
        return Err(wrong());
    }
    Ok(TensorProto { dims, ..data.clone() })
}

/// For a `Reshape` to a constant shape that fixes the batch to one: a shape that copies the batch instead.
fn free_batch(
    node: &NodeProto,
    constants: &BTreeMap<String, TensorProto>,
) -> Result<Option<TensorProto>, ConvertError> {
    let Some(shape) = node.input.get(1).and_then(|name| constants.get(name)) else {
        return Ok(None);
    };
    let mut sizes = shape.to_i64()?;
    match sizes.as_mut_slice() {
        [batch, _, ..] if *batch == 1 => *batch = 0,
        _ => return Ok(None),
    }
    Ok(Some(TensorProto::i64(&format!("{}_shape", output_of(node)?), &sizes)))
}

fn free_dimensions(
    inputs: &mut [ValueInfoProto],
    outputs: &mut [ValueInfoProto],
    free: FreeDimensions,
) -> Result<(), ConvertError> {
    for (is_input, value) in inputs.iter_mut().map(|v| (true, v)).chain(outputs.iter_mut().map(|v| (false, v))) {
        let name = value.name.clone();
        let dims = value.dims_mut().filter(|dims| !dims.is_empty());
        let dims = dims.ok_or_else(|| ConvertError::malformed(format!("{name} has no shape")))?;
        dims[0] = DimensionProto::free("N");
        match (free, is_input, dims.as_mut_slice()) {
            (FreeDimensions::Batch, ..) => {}
            (FreeDimensions::BatchAndSize, true, [_, _, height, width]) => {
                *height = DimensionProto::free("H");
                *width = DimensionProto::free("W");
            }
            (FreeDimensions::BatchAndSize, false, [_, anchors, _]) => {
                *anchors = DimensionProto::free(&format!("anchors_{name}"));
            }
            (FreeDimensions::BatchAndSize, ..) => {
                return Err(ConvertError::unsupported(format!("{name}: a free size for {} dimensions", dims.len())));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::onnx::{AttributeProto, OperatorSetIdProto, data_type};
    use super::*;

    fn int8(name: &str, dims: &[i64], values: &[i8]) -> TensorProto {
        TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: data_type::INT8,
            raw_data: Some(values.iter().map(|value| value.cast_unsigned()).collect()),
            ..TensorProto::default()
        }
    }

    fn node(op_type: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            op_type: op_type.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute,
            ..NodeProto::default()
        }
    }

    fn model(graph: GraphProto) -> Vec<u8> {
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 21 }];
        ModelProto { ir_version: 6, graph: Some(graph), opset_import, ..ModelProto::default() }.encode_to_vec()
    }

    fn fixed(name: &str, dims: &[i64]) -> ValueInfoProto {
        ValueInfoProto::f32(name, dims.iter().map(|&size| DimensionProto::fixed(size)).collect())
    }

    /// A blocked int8 weight, reshaped, used by a MatMul whose result is reshaped with a fixed batch.
    fn quantised_graph() -> GraphProto {
        GraphProto {
            node: vec![
                node(
                    "DequantizeLinear",
                    &["q", "s", "z"],
                    "w_flat",
                    vec![AttributeProto::int("axis", 0), AttributeProto::int("block_size", 2)],
                ),
                node("Reshape", &["w_flat", "w_shape"], "w", vec![]),
                node("MatMul", &["x", "w"], "y", vec![]),
                node("Reshape", &["y", "y_shape"], "out", vec![]),
            ],
            initializer: vec![
                int8("q", &[3, 2], &[1, 2, 3, 4, 5, 6]),
                TensorProto::f32("s", &[2, 2], [1.0, 10.0, 0.5, 0.25]),
                int8("z", &[2, 2], &[0, 0, 1, 2]),
                TensorProto::i64("w_shape", &[2, -1]),
                TensorProto::i64("y_shape", &[1, -1, 1]),
            ],
            input: vec![fixed("x", &[1, 2]), fixed("q", &[3, 2])],
            output: vec![fixed("out", &[1, 3, 1])],
            ..GraphProto::default()
        }
    }

    #[test]
    fn blocked_weights_are_folded_and_the_batch_is_freed() {
        let folded = fold(&model(quantised_graph()), FreeDimensions::Batch).unwrap();
        let graph = ModelProto::decode(folded.as_slice()).unwrap().graph.unwrap();
        let operators: Vec<_> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["MatMul", "Reshape"]);
        let weight = graph.initializer.iter().find(|tensor| tensor.name == "w").unwrap();
        // Rows 0 and 1 use the first row of scales, row 2 the second: (5 − 1) × 0.5 and (6 − 2) × 0.25.
        assert_eq!(weight.widened_f32().unwrap(), [1.0, 20.0, 3.0, 40.0, 2.0, 1.0]);
        assert_eq!(weight.dims, [2, 3]);
        let shape = graph.initializer.iter().find(|tensor| tensor.name == graph.node[1].input[1]).unwrap();
        assert_eq!(shape.to_i64().unwrap(), [0, -1, 1]);
        assert_eq!(graph.input.len(), 1, "weights are no inputs");
        assert_eq!(graph.input[0].clone().dims_mut().unwrap()[0], DimensionProto::free("N"));
        assert_eq!(graph.initializer.len(), 2, "what nothing uses is dropped");
    }

    #[test]
    fn the_same_source_gives_the_same_bytes() {
        let source = model(quantised_graph());
        assert_eq!(fold(&source, FreeDimensions::Batch).unwrap(), fold(&source, FreeDimensions::Batch).unwrap());
    }

    #[test]
    fn scales_per_axis_and_for_the_whole_tensor() {
        let quantised = int8("q", &[2, 2], &[1, 2, 3, 4]);
        let per_axis = TensorProto::f32("s", &[2], [1.0, 2.0]);
        let folded = dequantize(&quantised, &per_axis, None, 1, 0).unwrap();
        assert_eq!(folded.widened_f32().unwrap(), [1.0, 4.0, 3.0, 8.0]);
        let folded = dequantize(&quantised, &per_axis, None, -2, 0).unwrap();
        assert_eq!(folded.widened_f32().unwrap(), [1.0, 2.0, 6.0, 8.0]);
        let whole = TensorProto::f32("s", &[], [0.5]);
        let folded = dequantize(&quantised, &whole, Some(&int8("z", &[], &[1])), 1, 0).unwrap();
        assert_eq!(folded.widened_f32().unwrap(), [0.0, 0.5, 1.0, 1.5]);
        let wrong = TensorProto::f32("s", &[3], [1.0; 3]);
        assert!(dequantize(&quantised, &wrong, None, 1, 0).is_err());
        assert!(dequantize(&quantised, &wrong, None, 7, 0).is_err());
        assert!(dequantize(&quantised, &wrong, None, 1, 2).is_err());
        assert!(dequantize(&quantised, &wrong, None, 1, -2).is_err());
    }

    #[test]
    fn training_leftovers_are_dropped() {
        let mut normalise = node(
            "BatchNormalization",
            &["x", "a", "b", "c", "d"],
            "y",
            vec![AttributeProto::float("epsilon", 1e-3), AttributeProto::int("spatial", 1)],
        );
        normalise.output.push("saved_mean".into());
        let graph = GraphProto {
            node: vec![normalise, node("Dropout", &["y", "ratio"], "out", vec![])],
            initializer: vec![TensorProto::f32("ratio", &[], [0.4])],
            input: vec![fixed("x", &[1, 2, 4, 4])],
            output: vec![fixed("out", &[1, 2, 4])],
            ..GraphProto::default()
        };
        let folded = fold(&model(graph), FreeDimensions::BatchAndSize).unwrap();
        let graph = ModelProto::decode(folded.as_slice()).unwrap().graph.unwrap();
        assert_eq!(graph.node[0].output, ["y"]);
        assert_eq!(graph.node[0].attribute.len(), 1);
        assert_eq!(graph.node[1].input, ["y"]);
        let mut input = graph.input[0].clone();
        assert_eq!(input.dims_mut().unwrap()[2..], [DimensionProto::free("H"), DimensionProto::free("W")]);
        let mut output = graph.output[0].clone();
        assert_eq!(output.dims_mut().unwrap()[1], DimensionProto::free("anchors_out"));
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let mut graph = quantised_graph();
        graph.node[2].domain = "com.example".into();
        assert!(matches!(fold(&model(graph), FreeDimensions::Batch), Err(ConvertError::Unsupported(_))));
        let mut graph = quantised_graph();
        graph.node[2].attribute.push(AttributeProto {
            name: "body".into(),
            g: Some(super::super::onnx::Opaque {}),
            ..AttributeProto::default()
        });
        assert!(matches!(fold(&model(graph), FreeDimensions::Batch), Err(ConvertError::Unsupported(_))));
        let mut graph = quantised_graph();
        graph.sparse_initializer.push(super::super::onnx::Opaque {});
        assert!(matches!(fold(&model(graph), FreeDimensions::Batch), Err(ConvertError::Unsupported(_))));
        assert!(matches!(fold(b"not a model", FreeDimensions::Batch), Err(ConvertError::Malformed(_))));
        assert!(matches!(fold(b"", FreeDimensions::Batch), Err(ConvertError::Malformed(_))));
    }
}
