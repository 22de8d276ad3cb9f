//! Cuts the output of a text recogniser down to what its reader needs.
//!
//! A recogniser of the PaddleOCR kind ends in `MatMul → Add → Softmax` over one class for each character it knows (some 18 000),
//! of which class 0 is the blank of connectionist temporal classification (Graves et al., "Connectionist Temporal
//! Classification", ICML 2006) and the last one the space; the file's metadata lists the characters between them. Copying all
//! classes of every frame out of a session costs more than it tells. The converted graph gives the best character of each frame
//! as a code point, so that the list becomes part of the graph and nobody else needs it: `characters` `[N, T]`, the code point of the
//! best class, 0 for the blank, and `probabilities` `[N, T]`, its probability. Called by `convert::convert`; makes the graph plain with
//! [`fold`](super::fold) first.

use prost::Message;

use super::ConvertError;
use super::fold::{FreeDimensions, fold};
use super::onnx::{AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// Key of the list of characters in the file's metadata; one character a line.
const CHARACTERS_KEY: &str = "character";

/// # Errors
/// [`ConvertError`] as for [`fold`], and if the graph does not end as described above or the list of characters does not fit.
pub fn convert(source: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let characters = characters(source)?;
    let folded = fold(source, FreeDimensions::Batch)?;
    let mut model =
        ModelProto::decode(folded.as_slice()).map_err(|error| ConvertError::malformed(error.to_string()))?;
    let graph = model.graph.as_mut().ok_or_else(|| ConvertError::malformed("no graph"))?;
    let classes = classes_of(graph)?;
    if classes != characters.len() + 2 {
        let reason = format!("{classes} classes for {} characters, a blank and a space", characters.len());
        return Err(ConvertError::malformed(reason));
    }
    give_best_character(graph, &characters)?;
    model.producer_name = "vouch ctc".into();
    Ok(model.encode_to_vec())
}

/// The characters of classes 1, 2, … in order.
fn characters(source: &[u8]) -> Result<Vec<char>, ConvertError> {
    let model = ModelProto::decode(source).map_err(|error| ConvertError::malformed(error.to_string()))?;
    let list = model.metadata_props.iter().find(|entry| entry.key == CHARACTERS_KEY);
    let list = list.ok_or_else(|| ConvertError::malformed("no list of characters in the metadata"))?;
    let single = |line: &str| {
        let mut characters = line.chars();
        match (characters.next(), characters.next()) {
            // Code point 0 stands for the blank.
            (Some(character), None) if character != '\0' => Ok(character),
            _ => Err(ConvertError::unsupported("a class that is not one character")),
        }
    };
    list.value.split('\n').map(single).collect()
}

/// Classes of the last layer.
fn classes_of(graph: &GraphProto) -> Result<usize, ConvertError> {
    let [output] = graph.output.as_slice() else {
        return Err(ConvertError::unsupported(format!("{} outputs", graph.output.len())));
    };
    let (softmax, _) = producer(graph, &output.name, "Softmax")?;
    if softmax.attribute("axis").and_then(|axis| axis.i).is_none_or(|axis| axis != 2 && axis != -1) {
        return Err(ConvertError::unsupported("Softmax over another axis than the classes"));
    }
    let (add, bias) = producer(graph, softmax.input.first().map_or("", String::as_str), "Add")?;
    let product = add.input.iter().find(|name| constant(graph, name).is_none()).map_or("", String::as_str);
    let (_, weights) = producer(graph, product, "MatMul")?;
    let (Some(weights), Some(bias)) = (weights, bias) else {
        return Err(ConvertError::unsupported("a last layer without constant weights"));
    };
    match (graph.initializer[weights].shape()?.as_slice(), graph.initializer[bias].shape()?.as_slice()) {
        (&[_, classes], &[biases]) if biases == classes => Ok(classes),
        (weights, bias) => Err(ConvertError::unsupported(format!("last layer of shapes {weights:?} and {bias:?}"))),
    }
}

fn constant(graph: &GraphProto, name: &str) -> Option<usize> {
    graph.initializer.iter().position(|tensor| tensor.name == name)
}

/// The node that gives `value`, behind any `Identity`, and which of its inputs is a constant.
fn producer<'a>(
    graph: &'a GraphProto,
    value: &str,
    op_type: &str,
) -> Result<(&'a NodeProto, Option<usize>), ConvertError> {
    let mut value = value;
    // Each step goes to another node, so that more steps than nodes mean a circle.
    for _ in 0..=graph.node.len() {
        let node = graph.node.iter().find(|node| node.output.iter().any(|output| output == value));
        match node {
            Some(node) if node.op_type == op_type => {
                return Ok((node, node.input.iter().find_map(|name| constant(graph, name))));
            }
            Some(node) if node.op_type == "Identity" => value = node.input.first().map_or("", String::as_str),
            _ => break,
        }
    }
    Err(ConvertError::unsupported(format!("a text recogniser whose end has no {op_type} where one belongs")))
}

fn give_best_character(graph: &mut GraphProto, characters: &[char]) -> Result<(), ConvertError> {
    let classes = graph.output.first().map(|output| output.name.clone()).unwrap_or_default();
    // Every code point is below 2²¹, so f32 holds it exactly.
    let code_points = characters.iter().map(|&character| u32::from(character) as f32);
    let code_points: Vec<f32> = std::iter::once(0.0).chain(code_points).chain([u32::from(' ') as f32]).collect();
    let names = ["code_points", "best_class", "characters", "probabilities"];
    let taken = |name: &&str| graph.node.iter().flat_map(|node| &node.output).any(|output| output == name);
    if let Some(name) = names.iter().find(|name| taken(name)) {
        return Err(ConvertError::unsupported(format!("a graph that has a value named {name} already")));
    }
    let [table, best, characters, probabilities] = names;
    graph.initializer.push(TensorProto::f32(table, &[code_points.len() as i64], code_points.iter().copied()));
    let node = |op_type: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| NodeProto {
        op_type: op_type.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    };
    let without_classes = || AttributeProto::int("keepdims", 0);
    graph.node.extend([
        node("ArgMax", &[&classes], best, vec![AttributeProto::int("axis", 2), without_classes()]),
        node("Gather", &[table, best], characters, vec![AttributeProto::int("axis", 0)]),
        // The form of operator sets 11 to 17, in which the axes are an attribute.
        node("ReduceMax", &[&classes], probabilities, vec![AttributeProto::ints("axes", &[2]), without_classes()]),
    ]);
    let frames = || vec![DimensionProto::free("N"), DimensionProto::free("T")];
    graph.output = [characters, probabilities].map(|name| ValueInfoProto::f32(name, frames())).into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::onnx::{OperatorSetIdProto, StringStringEntryProto};
    use super::*;

    /// One feature; the weight of class `i` is `i`, its bias `i / 100`. The characters are `é`, digits, letters, `<` and `ß`.
    fn sample() -> ModelProto {
        let characters: Vec<String> = "é0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ<ß".chars().map(String::from).collect();
        let classes = characters.len() as i64 + 2;
        let node = |op_type: &str, inputs: &[&str], output: &str, attribute| NodeProto {
            op_type: op_type.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute,
            ..NodeProto::default()
        };
        let sizes = |sizes: &[i64]| sizes.iter().map(|&size| DimensionProto::fixed(size)).collect();
        let graph = GraphProto {
            node: vec![
                node("MatMul", &["x", "w"], "product", vec![]),
                node("Add", &["product", "b"], "sum", vec![]),
                node("Identity", &["sum"], "same", vec![]),
                node("Softmax", &["same"], "out", vec![AttributeProto::int("axis", 2)]),
            ],
            initializer: vec![
                TensorProto::f32("w", &[1, classes], (0..classes).map(|class| class as f32)),
                TensorProto::f32("b", &[classes], (0..classes).map(|class| class as f32 / 100.0)),
            ],
            input: vec![ValueInfoProto::f32("x", sizes(&[1, 4, 1]))],
            output: vec![ValueInfoProto::f32("out", sizes(&[1, 4, classes]))],
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: 6,
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 11 }],
            metadata_props: vec![StringStringEntryProto { key: CHARACTERS_KEY.into(), value: characters.join("\n") }],
            ..ModelProto::default()
        }
    }

    fn converted(model: &ModelProto) -> GraphProto {
        let bytes = convert(&model.encode_to_vec()).unwrap();
        ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap()
    }

    #[test]
    fn the_graph_holds_the_code_points() {
        let graph = converted(&sample());
        let operators: Vec<_> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["MatMul", "Add", "Identity", "Softmax", "ArgMax", "Gather", "ReduceMax"]);
        let table = graph.initializer.iter().find(|tensor| tensor.name == "code_points").unwrap();
        let table = table.widened_f32().unwrap();
        assert_eq!((table.len(), table[0], table[1], table[2]), (41, 0.0, 233.0, 48.0));
        assert_eq!(table[38..], [60.0, 223.0, 32.0], "`<`, the last listed character, the space");
        let names: Vec<_> = graph.output.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["characters", "probabilities"]);
    }

    #[test]
    fn graphs_of_another_make_are_refused() {
        let refused = |change: &dyn Fn(&mut ModelProto)| {
            let mut model = sample();
            change(&mut model);
            convert(&model.encode_to_vec()).is_err()
        };
        fn graph(model: &mut ModelProto) -> &mut GraphProto {
            model.graph.as_mut().unwrap()
        }
        assert!(!refused(&|_| {}));
        assert!(refused(&|model| model.metadata_props.clear()));
        assert!(refused(&|model| model.metadata_props[0].value.push_str("\nx")), "one class too few");
        assert!(refused(&|model| model.metadata_props[0].value = model.metadata_props[0].value.replacen('é', "ée", 1)));
        assert!(refused(&|model| graph(model).node[3].attribute[0].i = Some(1)));
        assert!(refused(&|model| graph(model).node[0].op_type = "Gemm".into()));
        assert!(refused(&|model| graph(model).node[2].input[0] = "same".into()), "a circle");
        assert!(convert(b"not a model").is_err());
    }
}
