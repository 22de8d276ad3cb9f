//! Models that go wrong: one that fails in ONNX Runtime on all that is not grey, and one that never ends on it. Both pass the daemon's warm-up, which is grey.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Code;
use vouch::models::convert::onnx::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};

use super::Row;
use super::stand::{HANGS, PATIENCE, Setting, Stand, end_of, verify};
use crate::common::root;

/// The period of the service manager that is played for the model that never ends.
pub const WATCHDOG: Duration = Duration::from_millis(1500);

/// The role that is replaced, with its input.
const ENTRY: &str = "role = \"passive_liveness\"\nname = \"played\"\nlicence = \"MIT\"\noutputs = [\"output\"]\n\
    input = { name = \"input\", layout = \"nchw\", colour = \"bgr\", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0], size = [128, 128] }\n";

/// Writes a model and the file that puts it in place of the shipped one, whose path is given back.
pub fn lay(folder: &Path, model: &[u8]) -> PathBuf {
    fs::write(folder.join("played.onnx"), model).unwrap();
    let sha256: String = Sha256::digest(model).iter().map(|byte| format!("{byte:02x}")).collect();
    let own = folder.join("models.toml");
    fs::write(&own, format!("[[model]]\n{ENTRY}file = \"played.onnx\"\nsha256 = \"{sha256}\"\n")).unwrap();
    own
}

/// Fills a cache folder with links to the optimised graphs that are there, so that a played model's own graph is no litter beside the pack.
pub fn borrow_cache(folder: &Path) {
    for entry in fs::read_dir(root().join("models/pack/cache")).into_iter().flatten().flatten() {
        std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: operator.to_owned(),
        attribute,
        domain: String::new(),
    }
}

/// ONNX's numbers of types that the converters do not write.
const INT64: i64 = 7;
const BOOL: i32 = 9;

/// How much brighter than grey the brightest value is, `[N, 1, 1, 1]`, or one value for all.
fn brightness(of_each: bool) -> Vec<NodeProto> {
    let mut attributes = vec![AttributeProto::int("keepdims", i64::from(of_each))];
    attributes.extend(of_each.then(|| AttributeProto::ints("axes", &[1, 2, 3])));
    vec![
        node("ReduceMax", &["input"], "brightest", attributes),
        node("Sub", &["brightest", "grey"], "above", Vec::new()),
    ]
}

fn value(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let mut value = ValueInfoProto::f32(name, dims.iter().map(|&size| DimensionProto::fixed(size)).collect());
    if let Some(tensor) = value.r#type.as_mut().and_then(|of| of.tensor_type.as_mut()) {
        tensor.elem_type = elem_type;
    }
    value
}

fn dims(sizes: [i64; 3]) -> Vec<DimensionProto> {
    std::iter::once(DimensionProto::free("N")).chain(sizes.map(DimensionProto::fixed)).collect()
}

fn graph(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        name: "played".into(),
        initializer,
        input: vec![ValueInfoProto::f32("input", dims([3, 128, 128]))],
        output: vec![ValueInfoProto::f32("output", dims([1, 1, 1]))],
        sparse_initializer: Vec::new(),
    }
}

fn model() -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, producer_name: "played".into(), opset_import, ..ModelProto::default() }
}

/// Looks a value up in a table of one, at the brightness above grey: beyond the table for every photograph.
pub fn failing() -> Vec<u8> {
    let mut nodes = brightness(true);
    nodes.push(node("Cast", &["above"], "index", vec![AttributeProto::int("to", INT64)]));
    nodes.push(node("Gather", &["table", "index"], "output", Vec::new()));
    let constants = vec![TensorProto::f32("grey", &[1], [127.0]), TensorProto::f32("table", &[1], [0.5])];
    ModelProto { graph: Some(graph(nodes, constants)), ..model() }.encode_to_vec()
}

/// Counts up, a quadrillion times for each step of brightness above grey.
pub fn endless() -> Vec<u8> {
    let body = GraphProto {
        node: vec![
            node("Identity", &["condition"], "condition_out", Vec::new()),
            node("Add", &["count", "count"], "count_out", Vec::new()),
        ],
        name: "body".into(),
        input: vec![value("number", 7, &[]), value("condition", BOOL, &[]), value("count", 1, &[1])],
        output: vec![value("condition_out", BOOL, &[]), value("count_out", 1, &[1])],
        ..GraphProto::default()
    };
    // An attribute that holds a graph is nothing that the converters write: it is put together here.
    let attribute = [delimited(1, b"body"), delimited(6, &body.encode_to_vec()), vec![20 << 3 | 0x80, 1, 5]].concat();
    let turns = node("Loop", &["turns", "always", "start"], "counted", Vec::new());
    let turns = [turns.encode_to_vec(), delimited(5, &attribute)].concat();
    let mut nodes = brightness(false);
    nodes.push(node("Mul", &["above", "quadrillion"], "many", Vec::new()));
    nodes.push(node("Cast", &["many"], "turns", vec![AttributeProto::int("to", INT64)]));
    // The sum over the picture is there for the output's first dimension, that of the batch.
    let axes = vec![AttributeProto::ints("axes", &[1, 2, 3]), AttributeProto::int("keepdims", 1)];
    nodes.push(node("ReduceMean", &["input"], "mean", axes));
    nodes.push(node("Add", &["mean", "counted"], "output", Vec::new()));
    let constants = vec![
        TensorProto::f32("grey", &[1], [127.0]),
        TensorProto::f32("quadrillion", &[1], [1e15]),
        TensorProto::f32("start", &[1], [0.0]),
        TensorProto { name: "always".into(), data_type: BOOL, raw_data: Some(vec![1]), ..TensorProto::default() },
    ];
    let graph = [graph(nodes, constants).encode_to_vec(), delimited(1, &turns)].concat();
    [model().encode_to_vec(), delimited(7, &graph)].concat()
}

/// A field of bytes in the wire format of Protocol Buffers.
fn delimited(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    [field, bytes.to_vec()].concat()
}

// ---------------------------------------------------------------- the faults

/// One check cannot be answered: it is INTERNAL with an id alone, the others are answered before, and nobody else notices.
pub fn failing_run(stand: &mut Stand, row: &mut Row) {
    let bystander = stand.bystander();
    let (mut client, request) = (stand.client(), stand.pictures.verification());
    let ended = stand.runtime.block_on(async { tokio::time::timeout(PATIENCE, verify(&mut client, request)).await });
    match ended {
        Err(_) => row.lost.push(HANGS.into()),
        Ok(Ok(_)) => row.lost.push("a model that fails was not noticed".into()),
        Ok(Err((status, known))) => {
            row.end(end_of(&status));
            row.expect(status.code() == Code::Internal, || format!("{status:?}"));
            // ONNX Runtime's own words name nodes and indices, which are for the journal.
            row.expect(!status.message().contains("Gather") && status.message().len() < 80, || {
                format!("the caller is told {:?}", status.message())
            });
            row.expect(known == stand.known && known.len() == 3, || format!("the other checks: {known:?}"));
        }
    }
    bystander.leave(stand, row);
}

/// The file of a model in use loses its second half, and a reload comes: sessions were made from what was read and checked, and nothing is mapped.
pub fn cut_file(stand: &mut Stand, row: &mut Row) {
    let bystander = stand.bystander();
    let file = stand.path("played.onnx");
    let whole = fs::read(&file).unwrap();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(whole.len() as u64 / 2).unwrap();
    let mut client = stand.client();
    let pictures = stand.pictures.clone();
    // In use: as before.
    let ended = stand.runtime.block_on(verify(&mut client, pictures.verification()));
    row.expect(matches!(&ended, Err((status, _)) if status.code() == Code::Internal), || format!("{ended:?}"));
    // A reload that has to read it anew is refused.
    let own = fs::read_to_string(stand.path("models.toml")).unwrap();
    fs::write(stand.path("models.toml"), own.replace("\"played\"", "\"renamed\"")).unwrap();
    row.end(reload(stand));
    fs::write(&file, whole).unwrap();
    fs::write(stand.path("models.toml"), own).unwrap();
    let again = reload(stand);
    row.expect(again == "OK", || format!("a reload after the file is whole again: {again}"));
    row.end(again);
    bystander.leave(stand, row);
}

/// How a reload ends.
pub fn reload(stand: &Stand) -> String {
    use vouch::api::proto::ReloadRequest;
    use vouch::api::proto::administration_client::AdministrationClient;
    stand.runtime.block_on(async {
        let mut operator = AdministrationClient::new(crate::common::channel_of(&stand.socket()).await);
        match tokio::time::timeout(PATIENCE, operator.reload(ReloadRequest {})).await {
            Err(_) => HANGS.to_owned(),
            Ok(Ok(_)) => "OK".to_owned(),
            Ok(Err(status)) => end_of(&status),
        }
    })
}

/// A run that does not end holds up its own callers until their deadlines and nobody else, the service manager hears nothing any more, and the daemon can be ended.
pub fn endless_run(stand: &mut Stand, row: &mut Row) {
    assert_eq!(stand.setting, Setting::Endless);
    let manager = UnixDatagram::bind(stand.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let feeds = |during: Duration| {
        let (until, mut count, mut buffer) = (Instant::now() + during, 0, [0; 512]);
        while Instant::now() < until {
            let heard = manager.recv(&mut buffer).map(|length| buffer[..length].starts_with(b"WATCHDOG=1"));
            count += u32::from(matches!(heard, Ok(true)));
        }
        count
    };
    // Three in each period as long as all is well, under load too.
    let bystander = stand.bystander();
    let fed = feeds(2 * WATCHDOG);
    row.expect((4..=8).contains(&fed), || format!("{fed} feeds in two periods of a daemon that is well"));
    // One for each session, and one that finds none free.
    let sessions = 1 + stand.state().sessions / 11;
    let (client, pictures) = (stand.client(), stand.pictures.clone());
    let began = Instant::now();
    let stuck: Vec<_> = (0..sessions)
        .map(|_| {
            let (mut client, request) = (client.clone(), pictures.verification());
            stand.runtime.spawn(async move { tokio::time::timeout(PATIENCE, verify(&mut client, request)).await })
        })
        .collect();
    for one in stuck {
        match stand.runtime.block_on(one).unwrap() {
            Err(_) => row.lost.push(HANGS.into()),
            Ok(Ok(_)) => row.lost.push("a run that never ends has ended".into()),
            Ok(Err((status, known))) => {
                row.expect(status.code() == Code::DeadlineExceeded && known.len() == 3, || {
                    format!("{status:?} after {known:?}")
                });
                row.end(end_of(&status));
            }
        }
    }
    let took = began.elapsed();
    row.expect(took < Duration::from_secs(16), || format!("deadlines of 10 s were kept after {took:?}"));
    std::thread::sleep((began + WATCHDOG + Duration::from_millis(600)).saturating_duration_since(Instant::now()));
    // What was sent before lies in the queue.
    while manager.recv(&mut [0; 512]).is_ok() {}
    let fed = feeds(2 * WATCHDOG);
    row.expect(fed == 0, || format!("{fed} feeds in two periods of a daemon that is stuck"));
    row.expect(stand.journal().contains("a model makes no progress"), || "the journal does not tell".into());
    bystander.leave(stand, row);
    // The daemon is not past being ended in order, either.
    let began = Instant::now();
    stand.signal(Signal::SIGTERM);
    let until = Instant::now() + Duration::from_secs(20);
    while stand.ended().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = stand.ended();
    row.expect(ended.is_some_and(|status| status.success()), || {
        format!("SIGTERM to a daemon that is stuck: {ended:?} after {:?}", began.elapsed())
    });
    fs::remove_file(stand.path("notify")).unwrap();
    stand.restart();
}
