//! Asks the real daemon: connections, requests that are sent again and again, and whether an answer is the one that it ought to be.
//!
//! The side of [`Ask`](super::load::Ask) that `vouch bench` uses; tests of the load play another.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::load::{Ask, BROKEN, End, Reply, Shot};
use super::media::{Part, cycle};
use crate::api::proto::verification_client::VerificationClient;
use crate::api::status::code_name;
use crate::cli::connect::{Failure, Target, answer, connect, patience, request};
use crate::cli::exchange::{Exchange, Verdict, verification};

/// tokio's timers are late by up to a millisecond and a little more, so only a coarse part of a wait is left to them.
const COARSE: Duration = Duration::from_millis(3);

/// Callers of the daemon.
#[derive(Debug, Clone)]
pub struct Callers {
    target: Target,
    connections: Vec<VerificationClient<Channel>>,
    parts: Vec<Part>,
    /// What each part was answered first; every later answer must be the same.
    verdicts: Vec<Verdict>,
    /// In which order the parts are sent.
    order: Vec<usize>,
}

impl Callers {
    /// Asks once for each part, over one connection: a request that the daemon does not take ends the measurement before it begins.
    ///
    /// # Errors
    /// As [`connect`] and [`answer`], naming the files.
    pub async fn new(target: &Target, parts: Vec<Part>) -> Result<Self, Failure> {
        let order = cycle(&parts.iter().map(|part| part.weight).collect::<Vec<_>>());
        let connections = vec![connect(target).await?];
        let mut callers = Self { target: target.clone(), connections, parts, verdicts: Vec::new(), order };
        for part in &callers.parts {
            let exchange = callers.exchange(0, part).await.map_err(|failure| failure.naming(part.files.clone()))?;
            callers.verdicts.push(exchange.verdict);
        }
        Ok(callers)
    }

    /// The same over so many connections, which stay open for the steps to come: the daemon notices closed ones late, and would count old and new
    /// against its limit.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn with_connections(&mut self, count: usize) -> Result<Self, Failure> {
        while self.connections.len() < count {
            self.connections.push(connect(&self.target).await?);
        }
        Ok(Self { connections: self.connections[..count].to_vec(), ..self.clone() })
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The first answers, in the order of the parts.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    async fn exchange(&self, caller: u64, part: &Part) -> Result<Exchange, Failure> {
        let mut client = self.connections[(caller % self.connections.len() as u64) as usize].clone();
        let message = request(&self.target, part.request.clone())?;
        answer(&self.target, patience(&self.target), verification(&mut client, message)).await
    }
}

impl Ask for Callers {
    async fn ask(&self, shot: Shot) -> Reply {
        let part = self.order[(shot.number % self.order.len() as u64) as usize];
        let sent = Instant::now();
        let result = self.exchange(shot.caller, &self.parts[part]).await;
        let ended = sent.elapsed();
        match result {
            Ok(exchange) => Reply {
                part,
                end: if exchange.verdict == self.verdicts[part] { End::Answered } else { End::Wrong },
                accepted: exchange.accepted,
                first_result: exchange.results.first().map(|(_, time)| *time),
                ended: exchange.answered,
            },
            Err(failure) => Reply { part, end: end_of(&failure), accepted: None, first_result: None, ended },
        }
    }

    async fn wait_until(&self, moment: Instant) {
        tokio::time::sleep_until(moment.checked_sub(COARSE).unwrap_or(moment)).await;
        // The kernel wakes a thread within a tenth of a millisecond. A pool that shuts down has no more requests to send.
        let fine = move || std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        let _ = tokio::task::spawn_blocking(fine).await;
    }
}

fn end_of(failure: &Failure) -> End {
    match failure {
        Failure::Refused { status, .. } if status.code() == Code::ResourceExhausted => {
            End::Refused { retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay) }
        }
        Failure::Refused { status, .. } => End::Failed { code: code_name(status.code()) },
        _ => End::Failed { code: BROKEN },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;
    use tonic_types::ErrorDetails;

    #[test]
    fn want_of_room_is_a_refusal_and_all_else_a_failure() {
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(Duration::from_millis(250)));
        let full = Failure::from(Status::with_error_details(Code::ResourceExhausted, "", details));
        assert_eq!(end_of(&full), End::Refused { retry_after: Some(Duration::from_millis(250)) });
        let silent = Failure::from(Status::resource_exhausted(""));
        assert_eq!(end_of(&silent), End::Refused { retry_after: None });
        assert_eq!(end_of(&Failure::from(Status::internal(""))), End::Failed { code: "INTERNAL" });
        assert_eq!(end_of(&Failure::Unfinished), End::Failed { code: BROKEN });
    }

    #[tokio::test]
    async fn a_wait_ends_at_its_moment_and_not_before() {
        let callers = Callers {
            target: Target { socket: "/nonexistent".into(), timeout: Duration::from_secs(1) },
            connections: Vec::new(),
            parts: Vec::new(),
            verdicts: Vec::new(),
            order: Vec::new(),
        };
        for wait_us in [0, 500, 5_300] {
            let moment = Instant::now() + Duration::from_micros(wait_us);
            callers.wait_until(moment).await;
            assert!(Instant::now() >= moment, "{wait_us}");
        }
    }
}
