//! `vouch verify`, `match`, `liveness` and `age`: send pictures, print the answers as they arrive, exit by the outcome.
//!
//! Called by `cli`. `report` does the printing, `connect` the calling; here are only arguments and requests.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;

use super::connect::{self, CallArgs, Failure, Target};
use super::report::{self, Report};
use crate::api::proto::verify_event::Event;
use crate::api::proto::{
    CheckPassiveLivenessRequest, CheckRequest, CheckResult, EstimateAgeRequest, MatchFacesRequest, Media, MediaKind,
    VerifyRequest,
};

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The live capture: the camera's original file, the whole frame
    #[arg(long, value_name = "IMAGE")]
    selfie: Option<PathBuf>,
    /// The face printed on a document, or a picture of the document
    #[arg(long, value_name = "IMAGE")]
    portrait: Option<PathBuf>,
    /// A photograph of the person kept from earlier, used in place of a portrait
    #[arg(long, value_name = "IMAGE")]
    reference: Option<PathBuf>,
    /// The whole side of a document that shows the portrait, or the data page of a passport
    #[arg(long, value_name = "IMAGE")]
    document: Option<PathBuf>,
    /// The other side of the same document
    #[arg(long, value_name = "IMAGE")]
    back: Option<PathBuf>,
    /// What the person says of themselves, such as family_name=Eriksson or birth_date=1974-08-12; may be repeated
    #[arg(long = "claim", value_name = "FIELD=VALUE", value_parser = parse_claim)]
    claims: Vec<(String, String)>,
    /// A check to run, if wanted at a named operating point; may be repeated [default: all that the pictures allow]
    #[arg(long = "check", value_name = "NAME[:OPERATING_POINT]", value_parser = parse_check)]
    checks: Vec<CheckChoice>,
    /// A number that a check takes, such as age_estimation.minimum_age_years=21; may be repeated
    #[arg(long = "set", value_name = "CHECK.PARAMETER=VALUE", value_parser = parse_setting)]
    settings: Vec<Setting>,
    /// The caller's own reference, echoed in the first event
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    client_reference: String,
    #[command(flatten)]
    pub call: CallArgs,
}

#[derive(Debug, Args)]
pub struct MatchArgs {
    /// The live capture
    probe: PathBuf,
    /// The portrait, or an earlier photograph
    reference: PathBuf,
    /// The named threshold to decide at [default: the calibration's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    operating_point: String,
    #[command(flatten)]
    pub call: CallArgs,
}

#[derive(Debug, Args)]
pub struct LivenessArgs {
    /// The live capture: the whole camera frame, not a crop of the face
    image: PathBuf,
    /// The named threshold to decide at [default: the calibration's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    operating_point: String,
    #[command(flatten)]
    pub call: CallArgs,
}

#[derive(Debug, Args)]
pub struct AgeArgs {
    /// The live capture
    image: PathBuf,
    /// The age that the person must have reached [default: the daemon's, 18]
    #[arg(long, value_name = "YEARS")]
    minimum_age: Option<f64>,
    /// Years above the minimum within which the estimate does not decide [default: the daemon's, 7]
    #[arg(long, value_name = "YEARS")]
    challenge_buffer: Option<f64>,
    #[command(flatten)]
    pub call: CallArgs,
}

/// `NAME[:OPERATING_POINT]`.
#[derive(Debug, Clone, PartialEq)]
struct CheckChoice {
    name: String,
    operating_point: String,
}

/// `CHECK.PARAMETER=VALUE`.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    check: String,
    parameter: String,
    value: f64,
}

impl VerifyArgs {
    /// The pictures named on the command line, in the order in which they are sent.
    fn pictures(&self) -> impl Iterator<Item = (MediaKind, &PathBuf)> {
        [
            (MediaKind::Selfie, &self.selfie),
            (MediaKind::Portrait, &self.portrait),
            (MediaKind::Reference, &self.reference),
            (MediaKind::DocumentFront, &self.document),
            (MediaKind::DocumentBack, &self.back),
        ]
        .into_iter()
        .filter_map(|(kind, path)| Some((kind, path.as_ref()?)))
    }
}

/// Runs one verification and prints its events; the exit code tells the summary's outcome.
///
/// # Errors
/// Any [`Failure`]; with `--json` it has been printed as the last line too.
pub async fn verify(args: &VerifyArgs, target: &Target) -> Result<u8, Failure> {
    let mut report = Report::to_stdout(args.call.json);
    let files = (0..).zip(args.pictures()).map(|(place, (_, path))| (format!("media[{place}].data"), path.clone()));
    let result = stream_verification(args, target, &mut report).await;
    result.map_err(|failure| failure.naming(files.collect()))
}

/// Compares two faces.
///
/// # Errors
/// As [`verify`].
pub async fn match_faces(args: &MatchArgs, target: &Target) -> Result<u8, Failure> {
    let result = async {
        let message = MatchFacesRequest {
            probe: connect::read_picture(&args.probe)?,
            reference: connect::read_picture(&args.reference)?,
            operating_point: args.operating_point.clone(),
        };
        let request = connect::request(target, message)?;
        let mut client = connect::connect(target).await?;
        let answer = connect::answer(target, connect::patience(target), client.match_faces(request)).await?;
        Ok(answer.into_inner().result)
    };
    let files = vec![("probe".into(), args.probe.clone()), ("reference".into(), args.reference.clone())];
    single(&args.call, result.await.map_err(|failure: Failure| failure.naming(files)))
}

/// Asks whether a live person is in front of the camera.
///
/// # Errors
/// As [`verify`].
pub async fn liveness(args: &LivenessArgs, target: &Target) -> Result<u8, Failure> {
    let result = async {
        let message = CheckPassiveLivenessRequest {
            selfie: connect::read_picture(&args.image)?,
            operating_point: args.operating_point.clone(),
        };
        let request = connect::request(target, message)?;
        let mut client = connect::connect(target).await?;
        let answer = connect::answer(target, connect::patience(target), client.check_passive_liveness(request)).await?;
        Ok(answer.into_inner().result)
    };
    let files = vec![("selfie".into(), args.image.clone())];
    single(&args.call, result.await.map_err(|failure: Failure| failure.naming(files)))
}

/// Estimates an age.
///
/// # Errors
/// As [`verify`].
pub async fn age(args: &AgeArgs, target: &Target) -> Result<u8, Failure> {
    let result = async {
        let message = EstimateAgeRequest {
            selfie: connect::read_picture(&args.image)?,
            minimum_age_years: args.minimum_age,
            challenge_buffer_years: args.challenge_buffer,
        };
        let request = connect::request(target, message)?;
        let mut client = connect::connect(target).await?;
        let answer = connect::answer(target, connect::patience(target), client.estimate_age(request)).await?;
        Ok(answer.into_inner().result)
    };
    let files = vec![("selfie".into(), args.image.clone())];
    single(&args.call, result.await.map_err(|failure: Failure| failure.naming(files)))
}

/// Prints the result of a unary call in the shape of a stream's result event.
fn single(call: &CallArgs, result: Result<Option<CheckResult>, Failure>) -> Result<u8, Failure> {
    let mut report = Report::to_stdout(call.json);
    match result {
        Ok(Some(result)) => {
            report.event(None, &Event::Result(result.clone())).map(|()| report::exit_code_of(result.outcome()))
        }
        Ok(None) => Err(Failure::Unfinished),
        Err(failure) => Err(failure),
    }
}

async fn stream_verification(args: &VerifyArgs, target: &Target, report: &mut Report) -> Result<u8, Failure> {
    let request = connect::request(target, verify_request(args)?)?;
    let mut client = connect::connect(target).await?;
    let until = connect::patience(target);
    let mut stream = connect::answer(target, until, client.verify(request)).await?.into_inner();
    let mut outcome = None;
    while let Some(event) = connect::answer(target, until, stream.message()).await? {
        let elapsed_ms = Some(event.elapsed_ms);
        // An event of a kind that this client does not know yet arrives empty and is passed over.
        let Some(event) = event.event else { continue };
        report.event(elapsed_ms, &event)?;
        if let Event::Summary(summary) = event {
            outcome = Some(summary.outcome());
        }
    }
    outcome.map(report::exit_code_of).ok_or(Failure::Unfinished)
}

fn verify_request(args: &VerifyArgs) -> Result<VerifyRequest, Failure> {
    let mut media = Vec::new();
    for (kind, path) in args.pictures() {
        media.push(Media { kind: kind.into(), data: connect::read_picture(path)? });
    }
    Ok(VerifyRequest {
        media,
        checks: check_requests(args)?,
        client_reference: args.client_reference.clone(),
        claims: args.claims.iter().cloned().collect(),
    })
}

/// Joins `--check` and `--set`. Without any `--check` the daemon chooses, and a setting would have nowhere to go.
fn check_requests(args: &VerifyArgs) -> Result<Vec<CheckRequest>, Failure> {
    let mut checks: Vec<CheckRequest> = args
        .checks
        .iter()
        .map(|choice| CheckRequest {
            name: choice.name.clone(),
            operating_point: choice.operating_point.clone(),
            parameters: HashMap::new(),
        })
        .collect();
    for setting in &args.settings {
        let check = checks.iter_mut().find(|check| check.name == setting.check).ok_or_else(|| {
            Failure::BadInput(format!(
                "--set {0}.{1}: name the check too, with --check {0}",
                setting.check, setting.parameter
            ))
        })?;
        check.parameters.insert(setting.parameter.clone(), setting.value);
    }
    Ok(checks)
}

fn parse_claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected FIELD=VALUE".into()),
    }
}

fn parse_check(text: &str) -> Result<CheckChoice, String> {
    let (name, operating_point) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() || (text.contains(':') && operating_point.is_empty()) {
        return Err("expected NAME or NAME:OPERATING_POINT".into());
    }
    Ok(CheckChoice { name: name.into(), operating_point: operating_point.into() })
}

fn parse_setting(text: &str) -> Result<Setting, String> {
    let expected = "expected CHECK.PARAMETER=VALUE, VALUE a number";
    let (path, value) = text.split_once('=').ok_or(expected)?;
    let (check, parameter) = path.split_once('.').ok_or(expected)?;
    let value: f64 = value.parse().map_err(|_| expected)?;
    if check.is_empty() || parameter.is_empty() || !value.is_finite() {
        return Err(expected.into());
    }
    Ok(Setting { check: check.into(), parameter: parameter.into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_may_carry_an_operating_point() {
        let choice = |name: &str, point: &str| CheckChoice { name: name.into(), operating_point: point.into() };
        assert_eq!(parse_check("face_match"), Ok(choice("face_match", "")));
        assert_eq!(parse_check("face_match:fmr_1e-4"), Ok(choice("face_match", "fmr_1e-4")));
        for bad in ["", ":fmr_1e-4", "face_match:"] {
            assert!(parse_check(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn settings_are_finite_numbers_of_a_check() {
        let setting = parse_setting("age_estimation.minimum_age_years=21").unwrap();
        assert_eq!(setting.check, "age_estimation");
        assert_eq!(setting.parameter, "minimum_age_years");
        assert_eq!(setting.value, 21.0);
        for bad in ["a.b", "a=1", ".b=1", "a.=1", "a.b=", "a.b=x", "a.b=NaN", "a.b=inf"] {
            assert!(parse_setting(bad).is_err(), "{bad:?} was taken");
        }
    }
}
