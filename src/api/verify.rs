//! `Verify`: the stream of one verification's events.

use std::pin::Pin;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use super::convert;
use super::proto::{self, DocumentPart, VerifyEvent, VerifyRequest, document_part, verify_event};
use super::read_document;
use super::request::{Call, MAX_CLIENT_REFERENCE_BYTES};
use super::unwind::caught;
use crate::error::Error;
use crate::ops::faults;
use crate::pipeline::source::{News, Origin};
use crate::pipeline::verify::{self, CheckRequest, Event, Plan};

/// What the caller reads. Dropping it ends the verification.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<VerifyEvent, Status>> + Send>>;

/// # Errors
/// What is wrong with the request, or why it got no place. Later errors end the stream.
pub async fn verify(call: Call, request: VerifyRequest) -> Result<EventStream, Status> {
    if request.client_reference.len() > MAX_CLIENT_REFERENCE_BYTES {
        let reason = format!("more than {MAX_CLIENT_REFERENCE_BYTES} bytes");
        return Err(Error::invalid("client_reference", "REFERENCE_TOO_LONG", reason).into());
    }
    let media = request.media.into_iter().enumerate().map(|(index, media)| convert::media(index, media));
    let checks = request.checks.into_iter().map(|check| CheckRequest {
        name: check.name,
        operating_point: check.operating_point,
        parameters: check.parameters.into_iter().collect(),
    });
    let wanted = verify::Request {
        media: media.collect::<Result<_, _>>()?,
        checks: checks.collect(),
        claims: request.claims.into_iter().collect(),
        today: call.today(),
    };
    let plan = verify::plan(&call.engine, wanted)?;
    let place = call.until_deadline(call.enter(plan.bytes())).await?;
    let (events, stream) = mpsc::unbounded_channel();
    let accepted = proto::Accepted {
        verification_id: convert::random_id(),
        client_reference: request.client_reference,
        checks: plan.checks().map(str::to_owned).collect(),
    };
    // Nobody can have stopped listening yet.
    let _ = events.send(Ok(event(call.received, verify_event::Event::Accepted(accepted))));
    tokio::spawn(async move {
        tokio::select! {
            result = caught(run(&call, plan, place, &events)) => {
                if let Err(error) = result {
                    call.context.cancel();
                    let _ = events.send(Err(error.into()));
                }
            }
            // The caller closed the stream: dropping the call ends what is queued.
            () = events.closed() => {}
        }
    });
    Ok(Box::pin(UnboundedReceiverStream::new(stream)))
}

async fn run(
    call: &Call,
    plan: Plan,
    place: crate::pipeline::admission::Place,
    events: &mpsc::UnboundedSender<Result<VerifyEvent, Status>>,
) -> Result<(), Error> {
    let (sender, mut known) = mpsc::unbounded_channel();
    let tell = |event_known| {
        // A failed send means that the caller has gone, which ends this function from outside.
        let _ = events.send(Ok(event(call.received, message(call, event_known))));
    };
    let work = call.until_deadline(verify::run(&call.engine, plan, place, &call.context, &sender));
    let mut work = std::pin::pin!(work);
    faults::point("events");
    let result = loop {
        tokio::select! {
            biased;
            Some(event_known) = known.recv() => tell(event_known),
            result = &mut work => break result,
        }
    };
    // What was known before the end is told before the end. Threads that are still at work are not waited for.
    while let Ok(event_known) = known.try_recv() {
        tell(event_known);
    }
    result
}

fn event(received: Instant, event: verify_event::Event) -> VerifyEvent {
    VerifyEvent { elapsed_ms: convert::milliseconds(received.elapsed()), event: Some(event) }
}

fn message(call: &Call, event: Event) -> verify_event::Event {
    match event {
        Event::News(origin, news) => told(origin, news),
        Event::Warning(warning) => verify_event::Event::Warning(convert::warning(warning)),
        Event::Fields(fields) => verify_event::Event::DocumentFields(read_document::fields_message(fields)),
        Event::Result(result) => verify_event::Event::Result(convert::check_result(&call.engine, result)),
        Event::Summary { outcome, outcomes } => verify_event::Event::Summary(proto::Summary {
            outcome: convert::outcome(outcome).into(),
            outcomes: outcomes
                .into_iter()
                .map(|(check, outcome)| (check.to_owned(), convert::outcome(outcome).into()))
                .collect(),
            duration_ms: convert::milliseconds(call.received.elapsed()),
        }),
    }
}

fn told(origin: Origin, news: News) -> verify_event::Event {
    let media = convert::media_kind(origin.media).into();
    let part = match news {
        News::Stage(stage, duration) => {
            let duration_ms = convert::milliseconds(duration);
            return verify_event::Event::Progress(proto::Progress { stage: stage.as_str().into(), media, duration_ms });
        }
        News::Warning(warning) => return verify_event::Event::Warning(convert::warning(warning)),
        News::Located(located) => document_part::Part::Location(read_document::location(&located)),
        News::Portrait(portrait) => document_part::Part::Portrait(read_document::portrait_message(&portrait)),
        News::Mrz(found) => document_part::Part::Mrz(read_document::found_mrz(&found)),
        News::Barcode(read) => document_part::Part::Barcode(read_document::barcode(&read)),
    };
    let page = u32::try_from(origin.page).unwrap_or(u32::MAX);
    verify_event::Event::DocumentPart(DocumentPart { media, page, part: Some(part) })
}
