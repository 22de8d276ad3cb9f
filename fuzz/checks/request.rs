//! Any bytes as the messages of a call, through tonic, prost and the service itself: each call ends, tells what was wrong, and leaves nothing behind.
//!
//! Run by the fuzz target `request` and, on the committed corpus, by `tests/fuzz_corpus.rs`. The first byte chooses the RPC, the second the way of the rest into the body:
//! as the message of a unary call; as the messages of a stream, each with its length in two bytes; or, with bit 0, as the body itself, frames and all. Models are
//! played by runners that see nothing in any picture, so that all is asked that can be without weights; calibrations are those of the repository.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vouch::api::callers::Callers;
use vouch::api::proto::{self, verify_event, verify_live_event, verify_live_request};
use vouch::api::service::VerificationService;
use vouch::calibration::{CalibrationSet, find_calibration_dir};
use vouch::config::Config;
use vouch::decoders::Decoders;
use vouch::inference::batcher::BatchRunner;
use vouch::inference::registry::Registry;
use vouch::inference::{Outputs, Tensor};
use vouch::live::intake::Bounds;
use vouch::models::manifest::{Manifest, Role};
use vouch::ops::counts::Counts;
use vouch::pipeline::admission::AdmissionLimits;
use vouch::pipeline::source::MediaReader;
use vouch::pipeline::{Engine, EngineSlot, LiveLimits, MediaLimits, ROLES};

/// Pictures of up to `MAX_PIXELS` in the forms that models take: the detector of faces looks at three sizes up to 1280 × 1280 values of four bytes in three channels.
pub const MAX_BYTES: usize = 160 << 20;

const MAX_PIXELS: u64 = 40_000;
const MAX_IMAGE_BYTES: usize = 64 << 10;
const MAX_MESSAGE_BYTES: usize = 256 << 10;
const MAX_SESSIONS: usize = 4;

/// No call has reason to take longer, not even with sanitizers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest answer to a call that is refused, details included.
const MAX_REFUSAL_BYTES: usize = 4096;

const METHODS: [&str; 9] = [
    "Verify",
    "DetectFaces",
    "MatchFaces",
    "CheckPassiveLiveness",
    "EstimateAge",
    "ReadDocument",
    "ScanMrz",
    "VerifyLive",
    "GetStatus",
];

/// Put behind each text of a request to see whether it comes back.
const MARK: &str = "\u{2042}mark\u{2042}";

pub fn check(bytes: &[u8]) {
    let [method, mode, rest @ ..] = bytes else { return };
    let method = METHODS[usize::from(*method) % METHODS.len()];
    let is_stream = matches!(method, "ScanMrz" | "VerifyLive");
    let messages = if is_stream { parted(rest) } else { vec![rest.to_vec()] };
    if mode & 1 == 1 {
        call(method, rest.to_vec());
        return;
    }
    let answer = call(method, framed(&messages));
    let is_readable = messages.iter().all(|message| is_readable(method, message));
    match answer.status.code() {
        Code::Ok => told_whole(method, &answer.messages, messages.is_empty()),
        Code::InvalidArgument => named(&answer.status),
        // tonic's own word for what is no message, and for one that is too large.
        Code::Internal if !is_readable => {}
        Code::OutOfRange if messages.iter().any(|message| message.len() > MAX_MESSAGE_BYTES) => {}
        _ => panic!("{method} ended with {:?}", answer.status),
    }
    if let ("Verify" | "VerifyLive", Some(marked)) = (method, marked(method, &messages)) {
        let Answer { status, .. } = call(method, framed(&[marked]));
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(!status.message().contains(MARK) && !details.contains(MARK), "a caller's text came back: {status:?}");
    }
}

/// The messages of a stream: two bytes of length before each; the last may be shorter than it says.
fn parted(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let [high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (message, after) = rest.split_at(length);
        messages.push(message.to_vec());
        bytes = after;
    }
    messages
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let frame = |message: &Vec<u8>| [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    messages.iter().flat_map(frame).collect()
}

fn is_readable(method: &str, message: &[u8]) -> bool {
    match method {
        "Verify" => proto::VerifyRequest::decode(message).is_ok(),
        "DetectFaces" => proto::DetectFacesRequest::decode(message).is_ok(),
        "MatchFaces" => proto::MatchFacesRequest::decode(message).is_ok(),
        "CheckPassiveLiveness" => proto::CheckPassiveLivenessRequest::decode(message).is_ok(),
        "EstimateAge" => proto::EstimateAgeRequest::decode(message).is_ok(),
        "ReadDocument" => proto::ReadDocumentRequest::decode(message).is_ok(),
        "ScanMrz" => proto::ScanMrzRequest::decode(message).is_ok(),
        "VerifyLive" => proto::VerifyLiveRequest::decode(message).is_ok(),
        _ => proto::GetStatusRequest::decode(message).is_ok(),
    }
}

/// The first message with a mark behind each text that the caller chooses freely; `None` if there is no such.
fn marked(method: &str, messages: &[Vec<u8>]) -> Option<Vec<u8>> {
    let message = messages.first()?.as_slice();
    let mark = |text: &mut String| text.push_str(MARK);
    if method == "Verify" {
        let mut request = proto::VerifyRequest::decode(message).ok()?;
        request.claims = request.claims.into_iter().map(|(name, value)| (name, value + MARK)).collect();
        // One of its names as well, at a place that depends on the request.
        match request.client_reference.len() % 4 {
            0 => mark(&mut request.client_reference),
            1 => request.checks.iter_mut().for_each(|check| mark(&mut check.name)),
            2 => request.checks.iter_mut().for_each(|check| mark(&mut check.operating_point)),
            _ => request.claims = request.claims.into_iter().map(|(name, value)| (name + MARK, value)).collect(),
        }
        return Some(request.encode_to_vec());
    }
    let mut request = proto::VerifyLiveRequest::decode(message).ok()?;
    let Some(verify_live_request::Message::Policy(policy)) = &mut request.message else { return None };
    mark(&mut policy.client_reference);
    mark(&mut policy.operating_point);
    Some(request.encode_to_vec())
}

/// An answer that ended well says all that it has promised.
fn told_whole(method: &str, messages: &[Bytes], was_empty: bool) {
    match method {
        "Verify" => {
            let events: Vec<_> = messages.iter().map(|message| read::<proto::VerifyEvent>(message).event).collect();
            let Some(Some(verify_event::Event::Accepted(accepted))) = events.first() else {
                panic!("a verification that did not begin with what was accepted")
            };
            let Some(Some(verify_event::Event::Summary(summary))) = events.last() else {
                panic!("a verification that did not end with its summary")
            };
            let results: Vec<_> = events
                .iter()
                .filter_map(|event| match event {
                    Some(verify_event::Event::Result(result)) => Some(result),
                    _ => None,
                })
                .collect();
            assert!(!accepted.checks.is_empty() && accepted.client_reference.len() <= 128);
            assert_eq!(results.len(), accepted.checks.len());
            for check in &accepted.checks {
                assert_eq!(results.iter().filter(|result| result.check == *check).count(), 1);
                assert!(summary.outcomes.contains_key(check));
            }
            assert!(results.iter().all(|result| result.outcome() != proto::Outcome::Unspecified));
        }
        "ScanMrz" => {
            let frames = messages.iter().map(|message| read::<proto::ScanMrzEvent>(message).frame);
            assert!(frames.collect::<Vec<_>>().windows(2).all(|pair| pair[0] < pair[1]));
        }
        "VerifyLive" if !was_empty => {
            let last = messages.last().map(|message| read::<proto::VerifyLiveEvent>(message).event);
            assert!(
                matches!(last, Some(Some(verify_live_event::Event::Decision(_)))),
                "a session without its decision"
            );
        }
        "VerifyLive" => {}
        _ => assert_eq!(messages.len(), 1),
    }
}

fn read<M: Message + Default>(message: &Bytes) -> M {
    M::decode(message.clone()).expect("a message of the daemon")
}

/// A refusal names the field and has a stable code.
fn named(status: &Status) {
    assert!(status.message().len() + status.details().len() <= MAX_REFUSAL_BYTES, "{} bytes", status.details().len());
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    let is_code = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    assert!(info.domain == "vouch" && info.reason.bytes().all(is_code), "{info:?}");
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    // A message that cannot be read has no fields.
    let may_lack_field = info.reason == "MESSAGE_MALFORMED";
    let is_named = |field: &str| !field.is_empty() || may_lack_field;
    assert!(violations.iter().all(|violation| is_named(&violation.field) && !violation.description.is_empty()));
}

// ---------------------------------------------------------------- the service

struct Daemon {
    runtime: Runtime,
    engine: Arc<Engine>,
    slot: Arc<EngineSlot>,
}

/// One for the process: what a call leaves behind would show with the next.
static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let manifest = Manifest::shipped().expect("the shipped manifest");
    let runner = |role| {
        let entry = manifest.entry(role).expect("a shipped model").clone();
        (entry, Box::new(Blind { role }) as Box<dyn BatchRunner>)
    };
    let registry = Registry::of_runners(ROLES.into_iter().map(runner)).expect("threads");
    let calibrations = find_calibration_dir(None).and_then(|dir| CalibrationSet::load(&dir)).expect("calibrations");
    let limits = MediaLimits { max_image_bytes: MAX_IMAGE_BYTES, max_pixels: MAX_PIXELS };
    // Under the fuzzer's eyes.
    let reader = MediaReader { limits, decoders: Arc::new(Decoders::in_process()) };
    let live = LiveLimits {
        max_sessions: MAX_SESSIONS,
        max_duration: Duration::from_secs(120),
        bounds: Bounds { max_frames: 100, max_bytes: 1 << 20 },
    };
    let max_wait = Duration::from_secs(10);
    let admission = AdmissionLimits { max_running: 4, max_waiting: 16, max_waiting_bytes: 1 << 20, max_wait };
    let engine = Arc::new(Engine::new(registry, calibrations, reader, live, admission).expect("an engine"));
    let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(8).build().expect("a runtime");
    Daemon { runtime, slot: EngineSlot::new(Arc::clone(&engine)), engine }
});

/// Looks at pictures and sees nothing. Models that are asked only of what others have found fail, so that it shows if they are asked.
struct Blind {
    role: Role,
}

impl BatchRunner for Blind {
    fn run_batch(&mut self, inputs: &[Tensor]) -> Result<Vec<Outputs>, String> {
        inputs.iter().map(|input| self.run(input)).collect()
    }
}

impl Blind {
    fn run(&self, input: &Tensor) -> Result<Outputs, String> {
        let [_, height, width] = input.shape[..] else { return Err(format!("input of shape {:?}", input.shape)) };
        let zeros = |name: String, shape: Vec<usize>| {
            (Arc::from(name), Tensor { data: vec![0.0; shape.iter().product()], shape })
        };
        match self.role {
            Role::FaceDetector => {
                let heads = [("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)];
                let of_stride = |stride: usize| {
                    let cells = width.div_ceil(stride) * height.div_ceil(stride);
                    heads.map(|(name, values)| zeros(format!("{name}_{stride}"), vec![cells, values]))
                };
                Ok([8, 16, 32].into_iter().flat_map(of_stride).collect())
            }
            Role::PageLocator => {
                let map = |name: &str, channels, cell| zeros(name.into(), vec![channels, height / cell, width / cell]);
                Ok(vec![map("page", 3, 4), map("fine", 2, 2)])
            }
            Role::TextDetector => Ok(vec![zeros("map".into(), vec![1, height, width])]),
            role => Err(format!("{} was asked, and there is nothing to ask it of", role.name())),
        }
    }
}

struct Answer {
    status: Status,
    messages: Vec<Bytes>,
}

/// The body of a request: all of it at once, then the end.
struct Once(Option<Bytes>);

impl Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Sends a request and reads the answer to its end. Every place must be free then.
fn call(method: &str, body: Vec<u8>) -> Answer {
    let daemon = &*DAEMON;
    let started = Instant::now();
    let answer = daemon.runtime.block_on(async {
        let (slot, callers) =
            (Arc::clone(&daemon.slot), Callers::resolve(&Config::default()).expect("no names to look up"));
        let longest = Duration::from_secs(30);
        let mut service = VerificationService::server(slot, callers, Counts::default(), MAX_MESSAGE_BYTES, longest);
        let request = http::Request::post(format!("/vouch.v1.Verification/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Once(Some(body.into())))
            .expect("a request");
        let answer = service.call(request).await.unwrap_or_else(|never| match never {});
        read_answer(answer).await
    });
    while daemon.engine.admission.status().running > 0 || daemon.engine.live_places.available_permits() < MAX_SESSIONS {
        assert!(started.elapsed() < PATIENCE, "{method} keeps a place");
        // Tasks of the runtime run while it is driven; those that block have threads of their own.
        daemon.runtime.block_on(tokio::time::sleep(Duration::from_micros(200)));
    }
    assert_eq!(daemon.engine.admission.status().waiting, 0);
    assert!(started.elapsed() < PATIENCE, "{method} took {:?}", started.elapsed());
    answer
}

async fn read_answer(answer: http::Response<tonic::body::Body>) -> Answer {
    let (head, mut body) = answer.into_parts();
    let mut status = Status::from_header_map(&head.headers);
    let mut data = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.expect("a body of the daemon");
        match frame.into_data() {
            Ok(part) => data.extend_from_slice(&part),
            Err(frame) => {
                status = frame.trailers_ref().and_then(Status::from_header_map).or(status);
            }
        }
    }
    let mut rest = Bytes::from(data);
    let mut messages = Vec::new();
    while rest.remaining() >= 5 {
        assert_eq!(rest.get_u8(), 0, "an answer that is not compressed");
        let length = rest.get_u32() as usize;
        messages.push(rest.split_to(length));
    }
    assert!(rest.is_empty());
    Answer { status: status.expect("every call ends with a status"), messages }
}
