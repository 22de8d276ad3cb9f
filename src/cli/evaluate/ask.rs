//! Asks the daemon about every trial, several at once, and turns answers into what the scores file keeps.
//!
//! Called by `vouch evaluate`. An answer that says nothing about the picture (no room, the daemon not ready) is asked for again; one that
//! does is kept with its reason. What was read from a document is compared here with what is printed, and goes no further.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::super::connect::{Failure, Target, answer, patience, read_picture, request};
use super::super::exchange::verification;
use super::super::report::outcome_word;
use crate::api::proto::verification_client::VerificationClient;
use crate::api::proto::{
    Calibrated, Certainty, CheckPassiveLivenessRequest, CheckResult, EstimateAgeRequest, MatchFacesRequest, Media,
    MediaKind, Outcome, ReadDocumentRequest, ReadDocumentResponse, VerifyRequest,
};
use crate::evaluation::Question;
use crate::evaluation::age::{HIGH_95, LOW_95, is_estimator};
use crate::evaluation::data_set::{Case, Expected};
use crate::evaluation::reading::{compare_fields, compare_lines, compare_payload};
use crate::evaluation::scores::{Answer, Scored};

/// An overloaded daemon is asked again this often before its refusal counts as a failure to process.
const MAX_RETRIES: u32 = 100;
/// Pause before asking again where the refusal names none.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Comes with INCONCLUSIVE where nothing is wrong with the picture: there is no calibration for these models yet, which is the state in
/// which the first one is measured. Score and measurements count.
const UNCALIBRATED: &str = "NOT_CALIBRATED";
/// Warnings that never keep a check from deciding.
const REMARKS: [&str; 2] = ["MULTIPLE_FACES", "IMAGE_ROTATED"];

/// How to ask.
#[derive(Debug, Clone)]
pub struct Asking {
    pub target: Target,
    pub question: Question,
    /// Empty: the daemon's default.
    pub operating_point: String,
    /// Of an age; absent: the daemon's default.
    pub minimum_age: Option<f64>,
    pub callers: usize,
    pub show_progress: bool,
}

/// Asks about the cases, `callers` at a time, and hands over each answer as it comes, in any order. `done` of `total` were answered before.
///
/// # Errors
/// What ends the run: a file that cannot be read, a daemon that goes away, `keep` refusing an answer, Ctrl-C.
pub async fn ask_all(
    client: &VerificationClient<Channel>,
    asking: &Asking,
    cases: Vec<Case>,
    done: usize,
    mut keep: impl FnMut(Scored) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let total = done + cases.len();
    let progress = progress_bar(total, done, asking.show_progress);
    let (cases, next) = (Arc::new(cases), Arc::new(AtomicUsize::new(0)));
    let (answers, mut answered) = mpsc::channel(asking.callers);
    let mut callers = JoinSet::new();
    for _ in 0..asking.callers {
        let (cases, next, answers) = (Arc::clone(&cases), Arc::clone(&next), answers.clone());
        let (mut client, asking) = (client.clone(), asking.clone());
        callers.spawn(async move {
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let scored =
                    ask(&mut client, &asking, case).await.map(|answer| Scored { trial: case.trial.clone(), answer });
                let failed = scored.is_err();
                if answers.send(scored).await.is_err() || failed {
                    break;
                }
            }
        });
    }
    drop(answers);
    let mut count = done;
    let interrupted = async { tokio::signal::ctrl_c().await };
    tokio::pin!(interrupted);
    loop {
        let scored = tokio::select! {
            scored = answered.recv() => scored,
            _ = &mut interrupted => {
                progress.abandon();
                return Err(Failure::Interrupted { done: count, total });
            }
        };
        // Dropping the callers on the way out takes their calls back.
        let Some(scored) = scored else { break };
        keep(scored?)?;
        count += 1;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

fn progress_bar(total: usize, done: usize, show: bool) -> ProgressBar {
    let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(total as u64), target).with_position(done as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} {eta} left") {
        progress.set_style(style);
    }
    progress.reset_eta();
    progress
}

/// Sends one question until it is answered in earnest.
async fn ask(client: &mut VerificationClient<Channel>, asking: &Asking, case: &Case) -> Result<Answer, Failure> {
    let files = case.media.iter().map(|path| read(path.clone())).collect::<Vec<_>>();
    let mut media = Vec::with_capacity(files.len());
    for file in files {
        match file.await {
            Ok(bytes) => media.push(bytes),
            // A file that the daemon would not take for its size is a failure of that trial, not of the run.
            Err(Failure::BadInput(_)) => return Ok(failed(case, "IMAGE_TOO_LARGE".into(), 0.0)),
            Err(failure) => return Err(failure),
        }
    }
    // From the first attempt: whoever is refused waits too.
    let started = Instant::now();
    for attempt in 0.. {
        let until = patience(&asking.target);
        let result = answer(&asking.target, until, once(client, asking, case, &media)).await;
        let latency_ms = started.elapsed().as_secs_f64() * 1e3;
        let status = match result {
            Ok(answer) => return Ok(Answer { latency_ms, ..answer }),
            Err(Failure::Refused { status, .. }) => status,
            Err(failure) => return Err(failure),
        };
        match status.code() {
            // Overload says nothing about accuracy.
            Code::ResourceExhausted if attempt < MAX_RETRIES => {
                let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
                tokio::time::sleep(told.unwrap_or(RETRY_PAUSE)).await;
            }
            // Nor do a daemon that goes away and a user who may not ask.
            Code::Unavailable | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => {
                return Err(Failure::from(*status));
            }
            Code::InvalidArgument if is_of_the_request(&status) => return Err(Failure::from(*status)),
            code => return Ok(failed(case, reason(&status).unwrap_or_else(|| format!("{code:?}")), latency_ms)),
        }
    }
    unreachable!("attempts are counted without end and every path above returns or tries again")
}

/// What was asked cannot be asked, such as an operating point that does not exist: no other picture would do better.
fn is_of_the_request(status: &Status) -> bool {
    let details = status.get_error_details();
    let fields = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
    fields.iter().any(|violation| violation.field.contains("operating_point"))
}

fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason).filter(|reason| !reason.is_empty())
}

async fn read(path: PathBuf) -> Result<Bytes, Failure> {
    tokio::task::spawn_blocking(move || read_picture(&path))
        .await
        .unwrap_or_else(|_| Err(Failure::BadInput("reading a file panicked".into())))
}

/// A trial without an answer that counts. A document of which nothing came back was not read.
fn failed(case: &Case, reason: String, latency_ms: f64) -> Answer {
    let reading = of_document(&ReadDocumentResponse::default(), &case.expected).reading;
    Answer { failure: Some(reason), latency_ms, reading, ..Answer::default() }
}

/// One call. Errors of the client's own making, such as a message that is too large, come back as statuses too.
async fn once(
    client: &mut VerificationClient<Channel>,
    asking: &Asking,
    case: &Case,
    media: &[Bytes],
) -> Result<Answer, Status> {
    let target = &asking.target;
    let picture = |place: usize| media.get(place).cloned().unwrap_or_default();
    let operating_point = asking.operating_point.clone();
    let no_result = || Status::internal("the daemon sent an answer without a result");
    match asking.question {
        Question::FaceMatch => {
            let message = MatchFacesRequest { probe: picture(0), reference: picture(1), operating_point };
            let response = client.match_faces(ready(target, message)?).await?.into_inner();
            response.result.as_ref().map(of_check).ok_or_else(no_result)
        }
        Question::Liveness => {
            let message = CheckPassiveLivenessRequest { selfie: picture(0), operating_point };
            let response = client.check_passive_liveness(ready(target, message)?).await?.into_inner();
            response.result.as_ref().map(of_check).ok_or_else(no_result)
        }
        Question::Age => {
            let message =
                EstimateAgeRequest { selfie: picture(0), minimum_age_years: asking.minimum_age, ..Default::default() };
            let response = client.estimate_age(ready(target, message)?).await?.into_inner();
            response.result.as_ref().map(of_check).ok_or_else(no_result)
        }
        Question::Mrz | Question::Barcode | Question::Document => {
            let parts = match asking.question {
                Question::Mrz => vec!["mrz".to_owned()],
                Question::Barcode => vec!["barcode".to_owned()],
                _ => Vec::new(),
            };
            let message = ReadDocumentRequest { images: media.to_vec(), parts };
            let response = client.read_document(ready(target, message)?).await?.into_inner();
            Ok(of_document(&response, &case.expected))
        }
        Question::Latency => {
            let kinds = [MediaKind::Selfie, MediaKind::DocumentFront];
            let media = media.iter().zip(kinds).map(|(data, kind)| Media { kind: kind.into(), data: data.clone() });
            let message = VerifyRequest { media: media.collect(), ..Default::default() };
            let exchange = verification(client, ready(target, message)?).await?;
            let mut answer = Answer { outcome: exchange.verdict.outcome.to_owned(), ..Answer::default() };
            for (check, time) in exchange.results {
                let ms = time.as_secs_f64() * 1e3;
                answer.stages_ms.entry("first result".into()).or_insert(ms);
                answer.stages_ms.insert(check, ms);
            }
            Ok(answer)
        }
    }
}

fn ready<M: prost::Message>(target: &Target, message: M) -> Result<tonic::Request<M>, Status> {
    request(target, message).map_err(|failure| Status::out_of_range(failure.to_string()))
}

/// The score, or the reason why there is none that counts.
fn of_check(result: &CheckResult) -> Answer {
    let outcome = result.outcome();
    let score = result.score.filter(|score| score.is_finite());
    let finite = result.measurements.iter().filter(|(_, value)| value.is_finite());
    let mut measurements: BTreeMap<String, f64> = finite.map(|(name, value)| (name.clone(), *value)).collect();
    let is_age = |calibrated: &&Calibrated| {
        calibrated.kind == "age_years" && calibrated.low_95.is_finite() && calibrated.high_95.is_finite()
    };
    if let Some(calibrated) = result.calibrated.as_ref().filter(is_age) {
        measurements.extend([(LOW_95.to_owned(), calibrated.low_95), (HIGH_95.to_owned(), calibrated.high_95)]);
    }
    let is_answered = match outcome {
        Outcome::Pass | Outcome::Fail | Outcome::Review => score.is_some(),
        Outcome::Inconclusive => {
            let is_uncalibrated = result.warnings.iter().any(|warning| warning.code == UNCALIBRATED);
            // Of an age only the raw estimates are known then.
            is_uncalibrated && (score.is_some() || measurements.keys().any(|name| is_estimator(name)))
        }
        Outcome::Skipped | Outcome::Unspecified => false,
    };
    // The last warning is the one that kept the check from deciding, unless it only remarks on the picture.
    let reason = || {
        let told = result.warnings.iter().rfind(|warning| !REMARKS.contains(&warning.code.as_str()));
        told.map_or_else(|| format!("NO_SCORE_{}", outcome_word(outcome)), |warning| warning.code.clone())
    };
    Answer {
        outcome: outcome_word(outcome).to_owned(),
        score,
        measurements,
        failure: (!is_answered).then(reason),
        ..Answer::default()
    }
}

fn of_document(response: &ReadDocumentResponse, expected: &Expected) -> Answer {
    let is_uncertain = |certainty: Certainty| certainty == Certainty::Uncertain;
    let reading = match expected {
        Expected::Lines(printed) => {
            let zone = response.pages.iter().find_map(|page| page.mrz.as_ref());
            let doubted = response.fields.iter().any(|field| is_uncertain(field.certainty()));
            let valid = zone.is_some_and(|zone| zone.check_digits_valid);
            compare_lines(printed, zone.map(|zone| zone.lines.as_slice()), valid, doubted)
        }
        Expected::Payload(payload) => {
            let symbols = response.pages.iter().flat_map(|page| &page.barcodes);
            compare_payload(payload.as_deref(), symbols.map(|symbol| (&symbol.payload[..], symbol.text.as_str())))
        }
        Expected::Fields(printed) => {
            let record = response.record.iter().map(|field| {
                let of_source = |other: &&crate::api::proto::DocumentField| {
                    other.name == field.name && other.source == field.source && other.value == field.value
                };
                let certain = response.fields.iter().filter(of_source).any(|field| !is_uncertain(field.certainty()));
                (field.name.as_str(), field.value.as_str(), certain)
            });
            compare_fields(printed, record)
        }
        Expected::Nothing => return Answer::default(),
    };
    Answer { reading: Some(reading), ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::Warning;

    fn result(outcome: Outcome, score: Option<f64>, codes: &[&str]) -> CheckResult {
        let warnings = codes.iter().map(|code| Warning { code: (*code).into(), ..Default::default() }).collect();
        CheckResult { outcome: outcome.into(), score, warnings, ..Default::default() }
    }

    #[test]
    fn a_score_beside_an_outcome_that_decides_counts() {
        let passed = of_check(&result(Outcome::Pass, Some(0.7), &["MULTIPLE_FACES"]));
        assert_eq!((passed.score, passed.failure, passed.outcome.as_str()), (Some(0.7), None, "PASS"));
        let first = of_check(&result(Outcome::Inconclusive, Some(0.7), &[UNCALIBRATED]));
        assert_eq!((first.score, first.failure), (Some(0.7), None));
    }

    #[test]
    fn what_kept_a_check_from_deciding_is_the_reason() {
        let small = of_check(&result(Outcome::Inconclusive, Some(0.7), &["FACE_TOO_SMALL", "MULTIPLE_FACES"]));
        assert_eq!(small.failure.as_deref(), Some("FACE_TOO_SMALL"));
        let silent = of_check(&result(Outcome::Skipped, None, &[]));
        assert_eq!(silent.failure.as_deref(), Some("NO_SCORE_SKIPPED"));
        let no_number = of_check(&result(Outcome::Pass, Some(f64::NAN), &[]));
        assert_eq!((no_number.score, no_number.failure.is_some()), (None, true));
    }
}
