//! One verification: plan it, run its checks, tell each result the moment it is known.
//!
//! [`plan`] refuses what cannot be answered before any work is done. [`run`] gives every check a blocking thread of its own; what two checks share is
//! computed once by whichever asks first. An error in one check does not take the others' results away: they are sent, and the stream then ends with the error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Engine;
use super::admission::Place;
use super::picture::{Media, News, Picture, Stage};
use crate::checks::{self, Check, Evidence, FaceEvidence, Finding, MediaKind, Outcome, Terms, Warning};
use crate::error::Error;
use crate::inference::RequestContext;

/// A check as it was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckRequest {
    pub name: String,
    /// Empty: the calibration's default.
    pub operating_point: String,
    pub parameters: BTreeMap<String, f64>,
}

/// What is known, when it is known.
#[derive(Debug, Clone)]
pub enum Event {
    Stage {
        media: MediaKind,
        stage: Stage,
        duration: Duration,
    },
    /// Of a picture as a whole; the results of the checks concerned repeat it.
    Warning(Warning),
    Result(CheckResult),
    Summary {
        outcome: Outcome,
        outcomes: BTreeMap<&'static str, Outcome>,
    },
}

/// The finding of one check, with its name and its time.
#[derive(Debug, Clone)]
pub struct CheckResult {
    pub check: &'static dyn Check,
    pub finding: Finding,
    pub duration: Duration,
}

impl std::fmt::Debug for dyn Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A verification that can be run.
pub struct Plan {
    checks: Vec<(&'static dyn Check, CheckRequest)>,
    media: Vec<Media>,
}

impl Plan {
    /// The checks that will be answered.
    pub fn checks(&self) -> impl Iterator<Item = &'static str> {
        self.checks.iter().map(|(check, _)| check.name())
    }

    /// Bytes of media that the verification holds.
    pub fn bytes(&self) -> u64 {
        self.media.iter().map(|media| media.data.len() as u64).sum()
    }
}

/// Checks a request for sense. Without any check named, all that the media allow are planned.
///
/// # Errors
/// [`Error::InvalidInput`] naming the field: a kind of media twice or none, a check unknown, twice or without its pictures, an operating
/// point or a parameter that the check does not have.
pub fn plan(engine: &Engine, media: Vec<Media>, requests: Vec<CheckRequest>) -> Result<Plan, Error> {
    if media.is_empty() {
        return Err(Error::invalid("media", "MEDIA_MISSING", "at least one picture is needed"));
    }
    for (index, one) in media.iter().enumerate() {
        if media[..index].iter().any(|other| other.kind == one.kind) {
            let reason = format!("there is a {} already", one.kind.as_str());
            return Err(Error::invalid(format!("media[{index}].kind"), "MEDIA_KIND_REPEATED", reason));
        }
        engine.check_size(&one.data, &one.field)?;
    }
    let kinds: Vec<MediaKind> = media.iter().map(|media| media.kind).collect();
    let checks = if requests.is_empty() {
        checks::ALL
            .iter()
            .filter(|check| check.applies_to(&kinds))
            .map(|&check| (check, CheckRequest { name: check.name().into(), ..CheckRequest::default() }))
            .collect()
    } else {
        requests
            .into_iter()
            .enumerate()
            .map(|(index, request)| planned(engine, &kinds, index, request))
            .collect::<Result<Vec<_>, _>>()?
    };
    if checks.is_empty() {
        return Err(Error::invalid(
            "media",
            "MEDIA_MISSING",
            "no check can be answered from these pictures; send a selfie",
        ));
    }
    for (index, (check, _)) in checks.iter().enumerate() {
        if checks[..index].iter().any(|(other, _)| other.name() == check.name()) {
            let reason = format!("{} is asked for twice", check.name());
            return Err(Error::invalid(format!("checks[{index}].name"), "CHECK_REPEATED", reason));
        }
    }
    Ok(Plan { checks, media })
}

fn planned(
    engine: &Engine,
    kinds: &[MediaKind],
    index: usize,
    request: CheckRequest,
) -> Result<(&'static dyn Check, CheckRequest), Error> {
    let field = |part: &str| format!("checks[{index}].{part}");
    let Some(check) = checks::find(&request.name) else {
        let known: Vec<_> = checks::ALL.iter().map(|check| check.name()).collect();
        let reason = format!("no such check; there are {}", known.join(", "));
        return Err(Error::invalid(field("name"), "CHECK_UNKNOWN", reason));
    };
    if !check.applies_to(kinds) {
        let reason = format!("{} needs pictures that were not sent", check.name());
        return Err(Error::invalid(field("name"), "MEDIA_MISSING", reason));
    }
    if let Some(loaded) = engine.calibrations.get(check.name())
        && loaded.calibration.operating_point(&request.operating_point).is_none()
    {
        let known: Vec<_> = loaded.calibration.operating_points.iter().map(|point| point.name.as_str()).collect();
        let reason = format!("{} has no such operating point; there are {}", check.name(), known.join(", "));
        return Err(Error::invalid(field("operating_point"), "OPERATING_POINT_UNKNOWN", reason));
    }
    for (name, &value) in &request.parameters {
        // Without its name, which is the caller's and may be of any length.
        let field = || field("parameters");
        let Some(parameter) = check.parameters().iter().find(|parameter| parameter.name == name) else {
            let known: Vec<_> = check.parameters().iter().map(|parameter| parameter.name).collect();
            let reason = format!("{} takes no such parameter; it takes [{}]", check.name(), known.join(", "));
            return Err(Error::invalid(field(), "PARAMETER_UNKNOWN", reason));
        };
        let [low, high] = parameter.range;
        if !(low..=high).contains(&value) {
            let reason = format!("{} of {value} is outside {low} to {high}", parameter.name);
            return Err(Error::invalid(field(), "PARAMETER_OUT_OF_RANGE", reason));
        }
    }
    Ok((check, request))
}

/// Runs a plan and sends its events, the summary last. Events go to an unbounded channel: there are at most a few for each check.
///
/// # Errors
/// The first error of a check, after the results of all others have been sent.
pub async fn run(
    engine: &Arc<Engine>,
    plan: Plan,
    place: Place,
    context: &Arc<RequestContext>,
    events: &mpsc::UnboundedSender<Event>,
) -> Result<(), Error> {
    let listener = {
        let events = events.clone();
        // A failed send means that the caller has gone; the work then ends by its context.
        Arc::new(move |media, news| {
            let _ = match news {
                News::Stage(stage, duration) => events.send(Event::Stage { media, stage, duration }),
                News::Warning(warning) => events.send(Event::Warning(warning)),
            };
        })
    };
    let pictures: Arc<Vec<Picture>> =
        Arc::new(plan.media.into_iter().map(|media| engine.picture(media, context, listener.clone())).collect());
    // Given back when the last thread is done, which may be after the caller has gone.
    let place = Arc::new(place);
    let mut tasks: JoinSet<Result<Option<CheckResult>, Error>> = JoinSet::new();
    let has = |kind| pictures.iter().any(|picture| picture.kind() == kind);
    if has(MediaKind::Portrait) && has(MediaKind::Reference) {
        let message = "there is a portrait too, which is matched instead";
        let _ = events.send(Event::Warning(Warning::new("REFERENCE_NOT_USED", message, MediaKind::Reference)));
    }
    if plan.checks.iter().any(|(check, _)| check.name() == "face_match") {
        // The two sides of a match are independent: the one that the other checks do not look at anyway starts beside them.
        let (pictures, place) = (Arc::clone(&pictures), Arc::clone(&place));
        let other_side = if has(MediaKind::Portrait) { MediaKind::Portrait } else { MediaKind::Reference };
        tasks.spawn_blocking(move || {
            let _place = place;
            // Its error, if there is one, is told by face_match, which asks for the same.
            pictures
                .iter()
                .filter(|picture| picture.kind() == other_side)
                .for_each(|picture| drop(picture.embedding()));
            Ok(None)
        });
    }
    for (check, request) in plan.checks {
        let (engine, pictures, place) = (Arc::clone(engine), Arc::clone(&pictures), Arc::clone(&place));
        tasks.spawn_blocking(move || {
            let _place = place;
            let started = Instant::now();
            let finding = answer(&engine, check, &request, &pictures)?;
            Ok(Some(CheckResult { check, finding, duration: started.elapsed() }))
        });
    }
    let mut outcomes = BTreeMap::new();
    let mut first_error = None;
    drop(place);
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.unwrap_or_else(|_| Err(Error::internal("a check panicked; its place stands in the journal")));
        match ended {
            Ok(Some(result)) => {
                outcomes.insert(result.check.name(), result.finding.outcome);
                let _ = events.send(Event::Result(result));
            }
            Ok(None) => {}
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    if let Some(error) = first_error {
        return Err(error);
    }
    let outcome = Outcome::most_severe(outcomes.values().copied());
    let _ = events.send(Event::Summary { outcome, outcomes });
    Ok(())
}

fn answer(
    engine: &Engine,
    check: &'static dyn Check,
    request: &CheckRequest,
    pictures: &[Picture],
) -> Result<Finding, Error> {
    let of = |kind: MediaKind| {
        pictures.iter().find(|picture| picture.kind() == kind).map(|picture| picture as &dyn FaceEvidence)
    };
    let evidence = Evidence {
        selfie: of(MediaKind::Selfie),
        portrait: of(MediaKind::Portrait),
        reference: of(MediaKind::Reference),
    };
    let calibration = engine.calibrations.get(check.name());
    let operating_point = calibration.and_then(|loaded| loaded.calibration.operating_point(&request.operating_point));
    check.run(&evidence, &Terms { calibration, operating_point, parameters: &request.parameters })
}
