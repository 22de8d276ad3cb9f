//! One verification as its caller sees it: when each event came, and how it ended.
//!
//! Called by `vouch evaluate latency` and `vouch bench`, which count times and outcomes and print no event. Left out: deadlines and what a
//! refusal means, which are the callers' (see [`connect`](super::connect)).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::report::{outcome_word, outcomes};
use crate::api::proto::VerifyRequest;
use crate::api::proto::verification_client::VerificationClient;
use crate::api::proto::verify_event::Event;

/// A verification that ended well. All times count from sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The event `accepted`: the request has been read and has its place. Absent if the daemon sent none.
    pub accepted: Option<Duration>,
    /// Each check's result, in the order of arrival.
    pub results: Vec<(String, Duration)>,
    pub verdict: Verdict,
    /// The summary: the caller knows everything.
    pub answered: Duration,
}

/// What the summary says, in the short words of the command line (`PASS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: &'static str,
    /// Of each check.
    pub outcomes: BTreeMap<String, &'static str>,
}

/// Runs one verification to the end of its stream.
///
/// # Errors
/// The daemon's status, or DATA_LOSS if the stream ended without a summary or went on behind it: the daemon's fault, not the connection's.
pub async fn verification(
    client: &mut VerificationClient<Channel>,
    request: Request<VerifyRequest>,
) -> Result<Exchange, Status> {
    let started = Instant::now();
    let mut events = client.verify(request).await?.into_inner();
    let (mut accepted, mut results, mut summary) = (None, Vec::new(), None);
    while let Some(event) = events.message().await? {
        if summary.is_some() {
            return Err(Status::data_loss("the daemon sent more behind its summary"));
        }
        match event.event {
            Some(Event::Accepted(_)) => accepted = Some(started.elapsed()),
            Some(Event::Result(result)) => results.push((result.check, started.elapsed())),
            Some(Event::Summary(said)) => summary = Some((said, started.elapsed())),
            _ => {}
        }
    }
    let (summary, answered) =
        summary.ok_or_else(|| Status::data_loss("the daemon ended the answer before its summary"))?;
    let outcomes = outcomes(&summary).into_iter().map(|(check, word)| (check.to_owned(), word)).collect();
    let verdict = Verdict { outcome: outcome_word(summary.outcome()), outcomes };
    Ok(Exchange { accepted, results, verdict, answered })
}
