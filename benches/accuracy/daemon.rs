//! The daemon as this bench sees it: many requests at once, each answered by a score or a reason why there is none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use vouch::api::proto::verification_client::VerificationClient;
use vouch::api::proto::{
    CheckPassiveLivenessRequest, CheckResult, EstimateAgeRequest, GetStatusRequest, MatchFacesRequest, Outcome,
};

/// The largest message of the contract.
const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// An overloaded daemon is asked again this often before its refusal counts as a failure.
const MAX_RETRIES: u32 = 50;
/// Pause before asking again where the refusal names none.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Warnings that come with INCONCLUSIVE when nothing is wrong with the picture: there is no calibration for these models yet,
/// which is the state in which the first one is measured. The score counts.
const UNCALIBRATED: &str = "NOT_CALIBRATED";

/// Warnings that never keep a check from deciding.
const REMARKS: [&str; 2] = ["MULTIPLE_FACES", "IMAGE_ROTATED"];

/// One question to the daemon, by the files that it is about.
#[derive(Debug, Clone)]
pub enum Question {
    Match { probe: PathBuf, reference: PathBuf },
    Liveness { selfie: PathBuf },
    Age { selfie: PathBuf },
}

/// An answer that can be used.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Absent where only a calibration can make one of the measurements, as for the age.
    pub score: Option<f64>,
    pub measurements: BTreeMap<String, f64>,
    /// What the daemon made of it by its own calibration.
    pub outcome: Outcome,
}

impl Measured {
    /// How often each outcome was given to the questions for which `of` is true; failures to process count as what they are.
    pub fn outcomes(&self, of: impl Fn(usize) -> bool) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (_, answer) in self.answers.iter().enumerate().filter(|(index, _)| of(*index)) {
            let outcome = match answer {
                Ok(answer) => answer.outcome.as_str_name().trim_start_matches("OUTCOME_"),
                Err(_) => "INCONCLUSIVE",
            };
            *counts.entry(outcome.to_owned()).or_default() += 1;
        }
        counts
    }
}

/// Every answer of a run, and what it was measured with.
#[derive(Debug)]
pub struct Measured {
    /// In the order of the questions: the answer, or the reason (warning or error code) why there is none.
    pub answers: Vec<Result<Answer, String>>,
    pub score_kind: String,
    /// Role to SHA-256 of every model that took part.
    pub models: BTreeMap<String, String>,
    pub version: String,
    pub runtime: String,
    pub device: String,
}

/// A connected daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    client: VerificationClient<Channel>,
    callers: usize,
    /// Empty for the default one.
    operating_point: String,
}

impl Daemon {
    /// # Errors
    /// If nobody answers on the socket.
    pub async fn connect(socket: &Path, callers: usize, operating_point: String) -> anyhow::Result<Self> {
        let path = socket.to_owned();
        // The address is only a name: the connector below always opens the socket.
        let channel = Endpoint::from_static("http://vouchd")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await
            .with_context(|| format!("cannot reach a daemon at {}", socket.display()))?;
        let client = VerificationClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { client, callers, operating_point })
    }

    /// Asks every question, `callers` at a time.
    ///
    /// # Errors
    /// A file that cannot be read, a daemon that goes away, or models that change during the run.
    pub async fn ask_all(&self, questions: Vec<Question>) -> anyhow::Result<Measured> {
        let status = self.client.clone().get_status(GetStatusRequest {}).await.map_err(plain)?.into_inner();
        let progress = ProgressBar::new(questions.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} {eta} left") {
            progress.set_style(style);
        }
        let questions = Arc::new(questions);
        let next = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..self.callers {
            let (questions, next, progress) = (questions.clone(), next.clone(), progress.clone());
            let (mut client, point) = (self.client.clone(), self.operating_point.clone());
            callers.spawn(async move {
                let mut answers = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(question) = questions.get(index) else {
                        return anyhow::Ok(answers);
                    };
                    answers.push((index, ask(&mut client, question, &point).await?));
                    progress.inc(1);
                }
            });
        }
        let mut results: Vec<Option<Result<CheckResult, String>>> = vec![None; questions.len()];
        while let Some(joined) = callers.join_next().await {
            for (index, result) in joined.context("a caller failed")?? {
                results[index] = Some(result);
            }
        }
        progress.finish_and_clear();

        let mut measured = Measured {
            answers: Vec::with_capacity(results.len()),
            score_kind: String::new(),
            models: BTreeMap::new(),
            version: status.version,
            runtime: status.runtime_version,
            device: status.device_in_use,
        };
        for result in results.into_iter().flatten() {
            let answer = match result {
                Err(reason) => Err(reason),
                Ok(result) => {
                    for model in &result.models {
                        let known = measured.models.entry(model.role.clone()).or_insert_with(|| model.sha256.clone());
                        if *known != model.sha256 {
                            bail!("the model for {} changed during the run", model.role);
                        }
                    }
                    let answer = usable(&result);
                    if answer.is_ok() {
                        measured.score_kind.clone_from(&result.score_kind);
                    }
                    answer
                }
            };
            measured.answers.push(answer);
        }
        Ok(measured)
    }
}

/// Sends one question; an outcome or a request error is the inner result, a failure of the measurement itself the outer.
async fn ask(
    client: &mut VerificationClient<Channel>,
    question: &Question,
    operating_point: &str,
) -> anyhow::Result<Result<CheckResult, String>> {
    let read = |path: &PathBuf| {
        let path = path.clone();
        async move {
            tokio::fs::read(&path)
                .await
                .map(bytes::Bytes::from)
                .with_context(|| format!("cannot read {}", path.display()))
        }
    };
    for attempt in 0.. {
        let response = match question {
            Question::Match { probe, reference } => {
                let request = MatchFacesRequest {
                    probe: read(probe).await?,
                    reference: read(reference).await?,
                    operating_point: operating_point.to_owned(),
                };
                client.match_faces(request).await.map(|response| response.into_inner().result)
            }
            Question::Liveness { selfie } => {
                let request = CheckPassiveLivenessRequest {
                    selfie: read(selfie).await?,
                    operating_point: operating_point.to_owned(),
                };
                client.check_passive_liveness(request).await.map(|response| response.into_inner().result)
            }
            Question::Age { selfie } => {
                let request = EstimateAgeRequest { selfie: read(selfie).await?, ..Default::default() };
                client.estimate_age(request).await.map(|response| response.into_inner().result)
            }
        };
        match response {
            Ok(Some(result)) => return Ok(Ok(result)),
            Ok(None) => bail!("the daemon sent a response without a result"),
            // Overload says nothing about accuracy.
            Err(status) if status.code() == Code::ResourceExhausted && attempt < MAX_RETRIES => {
                let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
                tokio::time::sleep(told.unwrap_or(RETRY_PAUSE)).await;
            }
            // The daemon went away: that is no property of the picture.
            Err(status) if status.code() == Code::Unavailable => return Err(plain(status)),
            Err(status) => {
                let reason = status.get_details_error_info().map(|info| info.reason);
                return Ok(Err(reason
                    .filter(|reason| !reason.is_empty())
                    .unwrap_or_else(|| format!("{:?}", status.code()))));
            }
        }
    }
    unreachable!("attempts are counted without end and every path above returns or tries again")
}

fn plain(status: Status) -> anyhow::Error {
    anyhow::anyhow!("the daemon answered {:?}: {}", status.code(), status.message())
}

/// The score, or the reason why there is none that counts.
fn usable(result: &CheckResult) -> Result<Answer, String> {
    let answer = Answer {
        score: result.score.filter(|score| score.is_finite()),
        measurements: result.measurements.iter().map(|(name, value)| (name.clone(), *value)).collect(),
        outcome: result.outcome(),
    };
    let answered = match result.outcome() {
        Outcome::Pass | Outcome::Fail | Outcome::Review => answer.score.is_some(),
        Outcome::Inconclusive => result.warnings.iter().any(|warning| warning.code == UNCALIBRATED),
        Outcome::Skipped | Outcome::Unspecified => false,
    };
    let reason = || {
        // The last warning is the one that kept the check from deciding, unless it only remarks on the picture.
        result
            .warnings
            .iter()
            .rfind(|warning| !REMARKS.contains(&warning.code.as_str()))
            .map_or_else(|| result.outcome().as_str_name().to_owned(), |warning| warning.code.clone())
    };
    if answered { Ok(answer) } else { Err(reason()) }
}
