//! Policies of callers in the real daemon: who may call what, how much and how often, and what the refused are told.

mod common;
#[path = "injection/wire.rs"]
#[allow(dead_code, reason = "faults need the rest")]
mod wire;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Client, Daemon, channel_over, connect_as, photo, verification};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vouch::api::proto::verification_client::VerificationClient;
use vouch::api::proto::verify_live_request::Message;
use vouch::api::proto::{
    CallerStatus, DetectFacesRequest, GetStatusRequest, LivePolicy, ScanMrzRequest, VerifyLiveRequest,
};

/// A daemon whose policies are `text`, and the folder of its configuration. Everybody may connect.
fn start(text: &str) -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vouch.toml"), format!("[socket]\nmode = '0666'\n{text}")).unwrap();
    let config = folder.path().join("vouch.toml");
    let daemon = Daemon::start_with(&[("VOUCH_CONFIG", config.to_str().unwrap())]);
    fs::set_permissions(daemon.socket().parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    (daemon, folder)
}

/// A client that runs as another user.
async fn client_as(socket: &Path, uid: u32, groups: &'static [u32]) -> Client {
    let channel = channel_over(connect_as(socket, uid, 65_534, groups).unwrap()).await.unwrap();
    VerificationClient::new(channel).max_encoding_message_size(64 << 20)
}

async fn faces(client: &mut Client, image: Bytes) -> Result<(), Status> {
    client.detect_faces(DetectFacesRequest { image }).await.map(drop)
}

fn broken() -> Bytes {
    Bytes::from_static(b"\xff\xd8\xff no picture")
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn retry_after(status: &Status) -> Duration {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay).expect("a time to come back")
}

async fn accounts(client: &mut Client) -> Vec<CallerStatus> {
    client.get_status(GetStatusRequest::default()).await.unwrap().into_inner().callers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn the_first_policy_that_names_a_user_or_a_group_of_it_holds() {
    let (daemon, _folder) = start(
        "[[callers]]\nname = 'one'\nusers = [12001]\nrpcs = ['DetectFaces', 'GetStatus']\n\
         [[callers]]\nname = 'group'\ngroups = [23001]\nrpcs = ['GetStatus', 'ScanMrz']\n\
         [[callers]]\nname = 'rest'\nrpcs = ['GetStatus']\npriority = 'low'\n",
    );
    for (uid, groups, policy, allowed) in
        [(12_001, &[23_001][..], "one", true), (12_002, &[23_001], "group", false), (12_003, &[], "rest", false)]
    {
        let mut client = client_as(&daemon.socket(), uid, groups).await;
        let answer = faces(&mut client, photo("selfie.jpg")).await;
        match allowed {
            true => answer.unwrap(),
            false => {
                let refused = answer.unwrap_err();
                assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "RPC_NOT_ALLOWED"));
            }
        }
        // A user sees its own account alone.
        let [own] = accounts(&mut client).await.try_into().unwrap();
        assert_eq!((own.uid, own.policy.as_str(), own.connections), (uid, policy, 1));
        assert_eq!(own.malformed_total, u64::from(!allowed));
        assert_eq!(own.priority, if policy == "rest" { "low" } else { "normal" });
    }
    // Streams are refused in the same way.
    let mut client = client_as(&daemon.socket(), 12_001, &[]).await;
    let refused = client.scan_mrz(tokio_stream::empty::<ScanMrzRequest>()).await.unwrap_err();
    assert_eq!(reason(&refused), "RPC_NOT_ALLOWED");
    let mut operator = daemon.client().await;
    let all = accounts(&mut operator).await;
    assert_eq!(all.iter().map(|one| one.uid).collect::<Vec<_>>(), [0, 12_001, 12_002, 12_003]);
    let with_bytes = all.iter().find(|one| one.uid == 12_001).unwrap();
    assert!(with_bytes.bytes_total > photo("selfie.jpg").len() as u64 && with_bytes.requests_total == 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn one_user_at_its_rate_does_not_touch_another() {
    let (daemon, _folder) = start("[[callers]]\nname = 'slow'\nusers = [12001]\nrequests_per_minute = 30\nburst = 2\n");
    // Two processes of one user have one account.
    let mut first = client_as(&daemon.socket(), 12_001, &[]).await;
    let mut second = client_as(&daemon.socket(), 12_001, &[]).await;
    faces(&mut first, photo("selfie.jpg")).await.unwrap();
    let mut refusals = Vec::new();
    for _ in 0..6 {
        refusals.extend(faces(&mut second, broken()).await.err());
    }
    refusals.retain(|refused| refused.code() != Code::InvalidArgument);
    assert!(refusals.len() >= 2, "{refusals:?}");
    for refused in &refusals {
        assert_eq!((refused.code(), reason(refused).as_str()), (Code::ResourceExhausted, "RATE_EXCEEDED"));
        assert!(retry_after(refused) <= Duration::from_secs(2), "{refused:?}");
        let details = refused.get_error_details();
        let violation = &details.quota_failure().unwrap().violations[0];
        assert_eq!(
            (violation.subject.as_str(), violation.description.as_str()),
            ("policy:slow", "requests_per_minute = 30")
        );
    }
    let mut other = client_as(&daemon.socket(), 12_002, &[]).await;
    for _ in 0..3 {
        faces(&mut other, photo("selfie.jpg")).await.unwrap();
    }
    // Who comes back when told is served.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    faces(&mut second, photo("selfie.jpg")).await.unwrap();
    // The status is not counted.
    for _ in 0..20 {
        accounts(&mut first).await;
    }
    let [own] = accounts(&mut first).await.try_into().unwrap();
    assert_eq!(own.refused_total["requests_per_minute"], refusals.len() as u64);
    assert_eq!(own.connections, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn more_at_once_than_the_policy_has_are_refused_and_places_come_back_however_a_call_ends() {
    let (daemon, _folder) =
        start("[[callers]]\nname = 'few'\nusers = [12001]\nmax_concurrent = 2\nmax_connections = 3\n");
    let mut client = client_as(&daemon.socket(), 12_001, &[]).await;
    // Two scans that wait for frames hold both places.
    let (frames, waits) = tokio::sync::mpsc::channel::<ScanMrzRequest>(1);
    let scan = client.scan_mrz(tokio_stream::wrappers::ReceiverStream::new(waits)).await.unwrap();
    let stream = connect_as(&daemon.socket(), 12_001, 65_534, &[]).unwrap();
    let cut = stream.try_clone().unwrap();
    let mut second = VerificationClient::new(channel_over(stream).await.unwrap());
    let _scan_two = second.scan_mrz(tokio_stream::pending()).await.unwrap();
    let refused = faces(&mut client, photo("selfie.jpg")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "CONCURRENCY_EXCEEDED"));
    assert!(retry_after(&refused) >= Duration::from_millis(20));
    // One ends well, the other with its connection.
    drop(frames);
    let mut events = scan.into_inner();
    while events.message().await.unwrap().is_some() {}
    faces(&mut client, photo("selfie.jpg")).await.unwrap();
    cut.shutdown(std::net::Shutdown::Both).unwrap();
    // One whose caller has gone, one with a deadline that passes, one that is answered with an error.
    drop(client.verify(verification()).await);
    let mut late = tonic::Request::new(verification());
    late.set_timeout(Duration::from_millis(1));
    let _ = client.verify(late).await;
    faces(&mut client, broken()).await.unwrap_err();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let [own] = accounts(&mut client).await.try_into().unwrap();
        if own.running == 0 {
            break;
        }
        assert!(Instant::now() < until, "places are lost: {own:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Connections are counted by user too.
    let _further = [(); 2].map(|()| connect_as(&daemon.socket(), 12_001, 65_534, &[]).unwrap());
    let one_more = connect_as(&daemon.socket(), 12_001, 65_534, &[]).unwrap();
    one_more.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let closed = std::io::Read::read(&mut &one_more, &mut [0]);
    assert!(matches!(&closed, Ok(0) | Err(_)), "{closed:?}");
    let mut other = client_as(&daemon.socket(), 12_002, &[]).await;
    faces(&mut other, photo("selfie.jpg")).await.unwrap();
    let [own] = accounts(&mut client).await.try_into().unwrap();
    assert_eq!((own.connections, own.refused_total["max_connections"]), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn a_request_over_the_bytes_of_its_policy_is_refused_unary_and_in_a_stream() {
    let (daemon, _folder) = start("[[callers]]\nname = 'small'\nusers = [12001]\nmax_bytes = 100000\n");
    let mut client = client_as(&daemon.socket(), 12_001, &[]).await;
    let large = Bytes::from(vec![7; 3_000_000]);
    let refused = faces(&mut client, large.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "BYTES_EXCEEDED"), "{refused:?}");
    assert!(refused.get_error_details().retry_info().is_none(), "it stays too large");
    let frame = |data: Bytes| ScanMrzRequest { frame: data };
    let frames = tokio_stream::iter(vec![frame(Bytes::from(vec![1; 60_000])); 3]);
    let mut events = client.scan_mrz(frames).await.unwrap().into_inner();
    let ended = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a stream over its bytes ended as if all were well"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&ended), "BYTES_EXCEEDED");
    // What fits passes on the same connection.
    faces(&mut client, broken()).await.unwrap_err();
    let [own] = accounts(&mut client).await.try_into().unwrap();
    assert_eq!(own.refused_total["max_bytes"], 2);
    // Three requests, and of the two frames within the bytes those that were looked at.
    assert!((3..=5).contains(&own.malformed_total), "{own:?}");
    assert!(own.bytes_total < 1_500_000, "little more was read than may be: {own:?}");
    let mut other = client_as(&daemon.socket(), 12_002, &[]).await;
    assert_ne!(reason(&faces(&mut other, large).await.unwrap_err()), "BYTES_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn who_sends_malformed_input_pauses_longer_each_time_and_a_reload_pardons() {
    let (daemon, folder) = start("[[callers]]\nname = 'strict'\nusers = [12001]\nmalformed_burst = 4\n");
    let mut client = client_as(&daemon.socket(), 12_001, &[]).await;
    let mut pauses: Vec<Duration> = Vec::new();
    let started = Instant::now();
    while pauses.len() < 3 {
        assert!(started.elapsed() < Duration::from_secs(60), "{pauses:?}");
        let refused = faces(&mut client, broken()).await.unwrap_err();
        if refused.code() == Code::ResourceExhausted {
            assert_eq!(reason(&refused), "TOO_MUCH_MALFORMED");
            pauses.push(retry_after(&refused));
            tokio::time::sleep(retry_after(&refused)).await;
        } else {
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    }
    assert!(pauses[1] > pauses[0] && pauses[2] > pauses[1] && pauses[2] > Duration::from_millis(700), "{pauses:?}");
    // Bytes that are no message count as well, and are told as what they are.
    let mut channel = tonic::client::Grpc::new(common::channel_of(&daemon.socket()).await);
    channel.ready().await.unwrap();
    let path = "/vouch.v1.Verification/DetectFaces".parse().unwrap();
    let noise =
        channel.unary(tonic::Request::new(Bytes::from_static(b"\xff\xff\xff\xff")), path, Raw).await.unwrap_err();
    assert_eq!((noise.code(), reason(&noise).as_str()), (Code::InvalidArgument, "MESSAGE_MALFORMED"), "{noise:?}");

    // A good one between the bad ones is no attack.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    faces(&mut client, photo("selfie.jpg")).await.unwrap();
    let mut other = client_as(&daemon.socket(), 12_002, &[]).await;
    faces(&mut other, photo("selfie.jpg")).await.unwrap();

    while faces(&mut client, broken()).await.unwrap_err().code() == Code::InvalidArgument {}
    fs::write(
        folder.path().join("vouch.toml"),
        "[socket]\nmode = '0666'\n[[callers]]\nname = 'loose'\nusers = [12001]\nmalformed_burst = 0\n",
    )
    .unwrap();
    let operator = common::channel_of(&daemon.socket()).await;
    let mut administration = vouch::api::proto::administration_client::AdministrationClient::new(operator);
    let done = administration.reload(vouch::api::proto::ReloadRequest {}).await.unwrap().into_inner();
    assert_eq!(done.applied, ["callers"]);
    for _ in 0..20 {
        assert_eq!(faces(&mut client, broken()).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let [own] = accounts(&mut client).await.try_into().unwrap();
    assert_eq!(own.policy, "loose");
}

/// Bytes as they are in place of a message.
#[derive(Clone, Default)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Status> {
        Ok(Some(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn a_user_who_finishes_no_message_takes_no_room_of_others() {
    let (daemon, _folder) =
        start("[limits]\nmax_message_bytes = 1048576\nmax_image_bytes = 1048576\nmax_arriving_bytes = 2097152\n");
    // Three quarters of 2 MiB are 1.5: of four messages of 600 kB two fit.
    let mut hostile = connect_as(&daemon.socket(), 12_001, 65_534, &[]).unwrap();
    wire::begin_and_wait(&mut hostile).unwrap();
    let part = wire::message(&vec![0; 1_000_000]);
    for id in [1, 3, 5, 7] {
        hostile.write_all(&wire::headers(id, "DetectFaces")).unwrap();
        hostile.write_all(&wire::data(id, &part[..600_000], false)).unwrap();
    }
    hostile.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let frames = std::iter::from_fn(|| wire::read(&mut hostile).ok());
    let ended = frames.filter(|frame| frame.kind == wire::HEADERS && frame.flags & wire::END_STREAM != 0);
    let refused = ended.take(2).count();
    assert_eq!(refused, 2);
    let mut other = client_as(&daemon.socket(), 12_002, &[]).await;
    faces(&mut other, photo("selfie.jpg")).await.unwrap();
    let mut third = client_as(&daemon.socket(), 12_003, &[]).await;
    drop(hostile);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        faces(&mut third, vec![0; 800_000].into()).await.unwrap_err().code(),
        Code::InvalidArgument,
        "there is room again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn nobody_alone_takes_all_sessions_of_active_liveness() {
    let (daemon, _folder) = start("[live]\nmax_sessions = 4\n");
    let open = async |client: &mut Client| {
        let (frames, sent) = tokio::sync::mpsc::unbounded_channel();
        let policy = Message::Policy(LivePolicy::default());
        frames.send(VerifyLiveRequest { message: Some(policy) }).unwrap();
        let mut events = client.verify_live(UnboundedReceiverStream::new(sent)).await.unwrap().into_inner();
        let first = events.message().await;
        first.map(|_| (frames, events))
    };
    let mut greedy = client_as(&daemon.socket(), 12_001, &[]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(open(&mut greedy).await.unwrap());
    }
    assert_eq!(
        open(&mut greedy).await.unwrap_err().code(),
        Code::ResourceExhausted,
        "three of four are a user's share"
    );
    let mut other = client_as(&daemon.socket(), 12_002, &[]).await;
    held.push(open(&mut other).await.unwrap());
    drop(held);
    let until = Instant::now() + Duration::from_secs(20);
    while open(&mut greedy).await.is_err() {
        assert!(Instant::now() < until, "what was given back is not free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn bad_frames_make_pauses_which_end_the_streams_that_send_them() {
    let (daemon, _folder) = start("[[callers]]\nname = \"all\"\nmalformed_burst = 5\n");
    let mut client = client_as(&daemon.socket(), 12_001, &[]).await;
    let frame = ScanMrzRequest { frame: broken() };
    let (frames, sent) = tokio::sync::mpsc::unbounded_channel();
    let mut events = client.scan_mrz(UnboundedReceiverStream::new(sent)).await.unwrap().into_inner();
    let (others, sent) = tokio::sync::mpsc::unbounded_channel();
    let mut beside = client.scan_mrz(UnboundedReceiverStream::new(sent)).await.unwrap().into_inner();
    // One after the other; the second begins in the pause that the first has made.
    let (mut told, mut ended) = (0, Vec::new());
    for (frames, events) in [(&frames, &mut events), (&others, &mut beside)] {
        frames.send(frame.clone()).unwrap();
        assert!(events.message().await.unwrap().is_some());
        told += 1;
        ended.push(loop {
            frames.send(frame.clone()).unwrap();
            match events.message().await {
                Ok(event) => assert!(event.is_some()),
                Err(status) => break status,
            }
            told += 1;
            assert!(told < 40, "no stream ends");
        });
    }
    for status in ended {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MUCH_MALFORMED"));
        assert!(retry_after(&status) <= Duration::from_secs(10));
    }
    let mut innocent = client_as(&daemon.socket(), 12_002, &[]).await;
    faces(&mut innocent, photo("selfie.jpg")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn nobody_alone_takes_all_connections_nor_keeps_one_without_a_word() {
    let (daemon, _folder) = start("[limits]\nmax_connections = 8\n");
    let connect = |uid: u32, count: usize| -> Vec<_> {
        (0..count).map(|_| connect_as(&daemon.socket(), uid, 65_534, &[]).unwrap()).collect()
    };
    let is_closed = |stream: &mut std::os::unix::net::UnixStream, within: Duration| {
        stream.set_read_timeout(Some(within)).unwrap();
        matches!(stream.read(&mut [0; 64]), Ok(0))
    };
    let soon = Duration::from_millis(300);
    let began = Instant::now();
    let mut silent = connect(12_001, 7);
    let closed = silent.iter_mut().filter_map(|one| is_closed(one, soon).then_some(())).count();
    assert_eq!(closed, 1, "six of eight are a user's share");
    let mut others = connect(12_002, 3);
    assert_eq!(others.iter_mut().filter_map(|one| is_closed(one, soon).then_some(())).count(), 1, "all are taken");
    // But for the operator.
    let mut operator = daemon.client().await;
    assert_eq!(accounts(&mut operator).await.len(), 3);
    // Who says nothing is not kept.
    let all = silent.iter_mut().chain(&mut others).all(|one| is_closed(one, Duration::from_secs(15)));
    assert!(all && began.elapsed() > Duration::from_secs(8), "{:?}", began.elapsed());
    let mut third = client_as(&daemon.socket(), 12_003, &[]).await;
    accounts(&mut third).await;
}
