//! `ScanMrz`: the frames of a camera in, the best reading of the machine-readable zone so far out.
//!
//! Frames are looked at one at a time, always the newest: those that arrive meanwhile replace each other, so that a slow host answers
//! late for no frame. What the frames show is brought together by [`MrzFusion`]. Each frame that is looked at takes a place of its
//! own, and a session that waits for frames takes none. The stream ends with the frame that proves the reading, with the caller's last
//! frame, at the deadline, or when the daemon drains.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::callers::Share;
use super::convert;
use super::newest::{Arrival, Newest};
use super::proto::{self, ScanMrzEvent, ScanMrzRequest};
use super::read_document::{field_message, mrz_message};
use super::request::{Call, LAST_WORD};
use super::unwind::caught;
use crate::checks::MediaKind;
use crate::document::fields;
use crate::document::mrz_fusion::{Fused, MrzFusion};
use crate::document::mrz_reader::FoundMrz;
use crate::error::Error;
use crate::imaging::pdf;
use crate::models::manifest::Role;
use crate::pipeline::Engine;
use crate::pipeline::admission::Place;
use crate::pipeline::document::Parts;
use crate::pipeline::source::{Listener, Media};

/// Name of a frame in errors.
const FIELD: &str = "frame";

/// What the caller reads. Dropping it ends the scan.
pub type ScanStream = Pin<Box<dyn Stream<Item = Result<ScanMrzEvent, Status>> + Send>>;

/// Events that may wait for a slow caller; then no further frame is looked at.
const WAITING_EVENTS: usize = 4;

/// Longest time for which an overloaded daemon looks at no frame of a session.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A frame and its place in the stream; of one that cannot be used only why.
struct Frame {
    index: u32,
    data: Result<Bytes, proto::Warning>,
    /// Until it is looked at, it is a part of what callers may have on its way.
    held: Option<Share>,
}

/// What a frame shows; what is wrong with it as a warning.
type Look = Result<Option<Arc<FoundMrz>>, proto::Warning>;

/// # Errors
/// None at once: what is wrong with a frame is a warning in its event, and later errors end the stream.
pub async fn scan_mrz(call: Call, frames: Streaming<ScanMrzRequest>) -> Result<ScanStream, Status> {
    let (events, stream) = mpsc::channel(WAITING_EVENTS);
    tokio::spawn(async move {
        tokio::select! {
            result = caught(call.until_deadline(scan(&call, frames, &events))) => {
                if let Err(error) = result {
                    // The caller may have gone, or read nothing for longer than a call may take.
                    let _ = tokio::time::timeout(LAST_WORD, events.send(Err(error.into()))).await;
                }
            }
            // The caller closed the stream: dropping the call ends what is queued.
            () = events.closed() => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(stream)))
}

async fn scan(
    call: &Call,
    frames: Streaming<ScanMrzRequest>,
    events: &mpsc::Sender<Result<ScanMrzEvent, Status>>,
) -> Result<(), Error> {
    let (engine, audit, conduct) = (Arc::clone(&call.engine), call.audit.clone(), Arc::clone(&call.conduct));
    let (mut indices, mut is_first) = (0.., true);
    let mut newest = Newest::of(&call.engine, frames, FIELD, move |ScanMrzRequest { frame }| {
        audit.frame(&frame);
        let (data, held) = match usable(&engine, &frame) {
            Ok(()) => {
                match conduct.hold_frame(frame.len() as u64) {
                    Ok(held) => (Ok(frame), held),
                    Err(error) if is_first => return Err(error),
                    // As one that is replaced by the next.
                    Err(_) => return Ok(indices.next().and(None)),
                }
            }
            Err(error) => (Err(refused(error)?), None),
        };
        is_first = false;
        Ok(indices.next().map(|index| Frame { index, data, held }))
    });
    let mut fusion = MrzFusion::new(call.today());
    let mut looked_at = 0;
    loop {
        match newest.wait().await? {
            Arrival::Frame => {}
            // The last frame was looked at.
            Arrival::Ended => return Ok(()),
            Arrival::Nothing => continue,
        }
        call.conduct.check()?;
        // A place first: the frame that is the newest then is looked at.
        let place = match call.enter(newest.peek(Frame::bytes).unwrap_or(0)).await {
            Ok(place) => place,
            // What is known is not thrown away for a busy moment: the frame counts as replaced.
            Err(Error::Overloaded { retry_after }) if looked_at > 0 => {
                newest.take();
                tokio::time::sleep(retry_after.min(MAX_PAUSE)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(frame) = newest.take() else { continue };
        let index = frame.index;
        drop(frame.held);
        looked_at += 1;
        let work = look(call, frame.data, place, fusion);
        let (looked, fused);
        (looked, fused, fusion) = work.await?;
        if looked.is_err() {
            call.conduct.malformed();
        }
        let event = event(call, index, index + 1 - looked_at, looked, fused);
        let is_proved = event.proved;
        if events.send(Ok(event)).await.is_err() || is_proved {
            return Ok(());
        }
    }
}

impl Frame {
    fn bytes(&self) -> u64 {
        self.data.as_ref().map_or(0, |data| data.len() as u64)
    }
}

fn usable(engine: &Engine, frame: &Bytes) -> Result<(), Error> {
    engine.check_size(frame, FIELD)?;
    if pdf::is_pdf(frame) {
        return Err(Error::invalid(FIELD, "IMAGE_UNSUPPORTED_FORMAT", "a frame is a picture, and this is a PDF file"));
    }
    Ok(())
}

/// Looks at one frame and adds what it shows to the others.
async fn look(
    call: &Call,
    frame: Result<Bytes, proto::Warning>,
    place: Place,
    mut fusion: MrzFusion,
) -> Result<(Look, Option<Fused>, MrzFusion), Error> {
    let (engine, context, today) = (Arc::clone(&call.engine), Arc::clone(&call.context), call.today());
    let work = move || {
        // Held until the work has ended, also when the caller has gone before.
        let _place = place;
        let looked: Look = match frame {
            Err(warning) => Err(warning),
            Ok(data) => {
                let media = Media { kind: MediaKind::DocumentFront, data, field: FIELD.to_owned() };
                let parts = Parts { mrz: true, ..Parts::NONE };
                let listener: Arc<Listener> = Arc::new(|_, _| {});
                let read = engine
                    .document(vec![media], parts, today, &context, &listener)
                    .and_then(|document| Ok(document.mrz(0)?.cloned()));
                read.map(Ok).or_else(|error| refused(error).map(Err))?
            }
        };
        if let Ok(Some(found)) = &looked {
            fusion.add(found);
        }
        let fused = fusion.read();
        Ok((looked, fused, fusion))
    };
    let looked = tokio::task::spawn_blocking(work).await;
    looked.unwrap_or_else(|_| Err(Error::internal("reading panicked; its place stands in the journal")))
}

/// What is wrong with a frame does not end the scan; anything else does.
fn refused(error: Error) -> Result<proto::Warning, Error> {
    match error {
        Error::InvalidInput { code, reason, .. } => {
            Ok(proto::Warning { code: code.into(), message: reason, ..Default::default() })
        }
        other => Err(other),
    }
}

fn event(call: &Call, frame: u32, frames_dropped: u32, looked: Look, fused: Option<Fused>) -> ScanMrzEvent {
    let mut event = ScanMrzEvent { frame, frames_dropped, ..Default::default() };
    match looked {
        Ok(Some(found)) => event.quad = found.quad.iter().map(|&[x, y]| proto::Point { x, y }).collect(),
        Ok(None) => {}
        Err(warning) => event.warning = Some(warning),
    }
    if let Some(fused) = fused {
        event.fields = fields::of_mrz(&fused.repaired.mrz).into_iter().map(|field| field_message(field, 0)).collect();
        event.mrz = Some(mrz_message(&fused.repaired));
        event.frames_used = u32::try_from(fused.frames).unwrap_or(u32::MAX);
        event.proved = fused.is_proved;
    }
    event.models =
        convert::model_refs(&call.engine.registry, &[Role::PageLocator, Role::TextDetector, Role::MrzRecogniser]);
    event.elapsed_ms = convert::milliseconds(call.received.elapsed());
    event
}
