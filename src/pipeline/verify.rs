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
use super::document::{Document, DocumentFields, Parts};
use super::picture::Picture;
use super::source::{Listener, Media, News, Origin};
use crate::checks::face_match;
use crate::checks::{
    self, Check, DocumentEvidence, Evidence, FaceEvidence, Finding, MediaKind, Outcome, Terms, Warning,
};
use crate::document::agreement::{ClaimError, claim, claimable};
use crate::document::fields::DocumentField;
use crate::document::mrz::Date;
use crate::error::Error;
use crate::inference::RequestContext;
use crate::ops::{faults, metrics as names};

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
    /// Of a picture. Its warnings are repeated by the results of the checks concerned.
    News(Origin, News),
    /// Of the request as a whole.
    Warning(Warning),
    /// Every field of the document, and what they amount to.
    Fields(DocumentFields),
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
    claims: Vec<DocumentField>,
    today: Date,
}

/// A verification as it was asked for.
pub struct Request {
    pub media: Vec<Media>,
    /// Empty: all that the media allow.
    pub checks: Vec<CheckRequest>,
    /// What the caller says of the person and the document, by name of the field.
    pub claims: BTreeMap<String, String>,
    /// The day of the check.
    pub today: Date,
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
pub fn plan(engine: &Engine, request: Request) -> Result<Plan, Error> {
    let Request { media, checks: requests, claims, today } = request;
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
            "no check can be answered from these pictures; send a selfie or a document",
        ));
    }
    for (index, (check, _)) in checks.iter().enumerate() {
        if checks[..index].iter().any(|(other, _)| other.name() == check.name()) {
            let reason = format!("{} is asked for twice", check.name());
            return Err(Error::invalid(format!("checks[{index}].name"), "CHECK_REPEATED", reason));
        }
    }
    let claims = if claims.is_empty() {
        Vec::new()
    } else if checks.iter().any(|(check, _)| check.name() == "document_consistency") {
        claims.iter().map(claimed).collect::<Result<_, _>>()?
    } else {
        let reason = "claims are compared with a document by document_consistency, which is not among the checks";
        return Err(Error::invalid("claims", "CLAIMS_NOT_COMPARED", reason));
    };
    Ok(Plan { checks, media, claims, today })
}

fn claimed((name, value): (&String, &String)) -> Result<DocumentField, Error> {
    claim(name, value).map_err(|error| match error {
        // Without the name, which is the caller's and may be anything.
        ClaimError::UnknownField => {
            let reason = format!("no such field; claims can be made of {}", claimable().collect::<Vec<_>>().join(", "));
            Error::invalid("claims", "CLAIM_UNKNOWN", reason)
        }
        _ => Error::invalid(format!("claims.{name}"), "CLAIM_INVALID", error.to_string()),
    })
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
    let listener: Arc<Listener> = {
        let events = events.clone();
        // A failed send means that the caller has gone; the work then ends by its context.
        Arc::new(move |origin, news| {
            let _ = events.send(Event::News(origin, news));
        })
    };
    // Given back when the last thread is done, which may be after the caller has gone.
    let place = Arc::new(place);
    let reads_document = plan.checks.iter().any(|(check, _)| check.reads_document());
    let subject = {
        let (engine, context, media) = (Arc::clone(engine), Arc::clone(context), plan.media);
        let parts = if reads_document { Parts::ALL } else { Parts { portrait: true, ..Parts::NONE } };
        let put_to_work = move || Subject::new(&engine, media, parts, plan.claims, plan.today, &context, &listener);
        let held = Arc::clone(&place);
        let subject = tokio::task::spawn_blocking(move || (put_to_work(), held)).await.map(|(subject, _)| subject);
        Arc::new(subject.map_err(|_| Error::internal("opening the files panicked; its place stands in the journal"))??)
    };
    let mut tasks: JoinSet<Result<Option<CheckResult>, Error>> = JoinSet::new();
    // Work that the checks will ask for, started beside them. Its errors are told by the checks, which ask for the same.
    let mut prepare = |work: Preparation| {
        let (subject, place, events) = (Arc::clone(&subject), Arc::clone(&place), events.clone());
        tasks.spawn_blocking(move || {
            let _place = place;
            work(&subject, &events);
            Ok(None)
        });
    };
    if let Some(not_used) = subject.not_used() {
        let _ = events.send(Event::Warning(not_used));
    }
    if plan.checks.iter().any(|(check, _)| check.name() == "face_match") {
        // The two sides of a match are independent: the one that the other checks do not look at anyway starts beside them.
        let kinds = face_match::kinds(engine.calibrations.get("face_match").map(|loaded| &loaded.calibration));
        prepare(Box::new(move |subject, _| {
            let Some(side) = subject.other_side() else { return };
            kinds.into_iter().for_each(|kind| drop(side.embedding(kind)));
        }));
    }
    if reads_document {
        prepare(Box::new(|subject, events| {
            let Some(document) = &subject.document else { return };
            document.read();
            if let Ok(fields) = document.fields() {
                let _ = events.send(Event::Fields(DocumentFields::new(fields, &subject.claims)));
            }
        }));
    }
    for (check, request) in plan.checks {
        let (engine, subject, place) = (Arc::clone(engine), Arc::clone(&subject), Arc::clone(&place));
        tasks.spawn_blocking(move || {
            let _place = place;
            let started = Instant::now();
            let finding = answer(&engine, check, &request, &subject)?;
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
                let (check, outcome) = (result.check.name(), result.finding.outcome);
                metrics::counter!(names::CHECKS, "check" => check, "outcome" => outcome.as_str()).increment(1);
                outcomes.insert(check, outcome);
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

/// Work that several checks will ask for.
type Preparation = Box<dyn FnOnce(&Subject, &mpsc::UnboundedSender<Event>) + Send>;

/// What a verification is about: the pictures of one person, and of one document.
struct Subject {
    faces: Vec<Picture>,
    document: Option<Document>,
    claims: Vec<DocumentField>,
    today: Date,
}

impl Subject {
    fn new(
        engine: &Arc<Engine>,
        media: Vec<Media>,
        parts: Parts,
        claims: Vec<DocumentField>,
        today: Date,
        context: &Arc<RequestContext>,
        listener: &Arc<Listener>,
    ) -> Result<Self, Error> {
        let (mut sides, faces): (Vec<_>, Vec<_>) = media.into_iter().partition(|media| media.kind.is_document());
        // The front first, in whichever order they came.
        sides.sort_by_key(|media| media.kind);
        let document =
            if sides.is_empty() { None } else { Some(engine.document(sides, parts, today, context, listener)?) };
        let faces = faces.into_iter().map(|media| engine.picture(media, context, listener)).collect();
        Ok(Self { faces, document, claims, today })
    }

    fn face(&self, kind: MediaKind) -> Option<&dyn FaceEvidence> {
        if kind.is_document() {
            let document = self.document.as_ref()?;
            return document.media().contains(&kind).then_some(document as _);
        }
        self.faces.iter().find(|picture| picture.kind() == kind).map(|picture| picture as _)
    }

    /// What the selfie is matched with.
    fn other_side(&self) -> Option<&dyn FaceEvidence> {
        OTHER_SIDES.into_iter().find_map(|kind| self.face(kind))
    }

    /// A reference that is not looked at.
    fn not_used(&self) -> Option<Warning> {
        self.face(MediaKind::Reference)?;
        let message = match OTHER_SIDES.into_iter().find(|&kind| self.face(kind).is_some())? {
            MediaKind::Reference => return None,
            MediaKind::Portrait => "there is a portrait too, which is matched instead",
            _ => "there is a document too, whose portrait is matched instead",
        };
        Some(Warning::new("REFERENCE_NOT_USED", message, MediaKind::Reference))
    }
}

/// With what a selfie is matched: the first that is there.
const OTHER_SIDES: [MediaKind; 3] = [MediaKind::Portrait, MediaKind::DocumentFront, MediaKind::Reference];

fn answer(
    engine: &Engine,
    check: &'static dyn Check,
    request: &CheckRequest,
    subject: &Subject,
) -> Result<Finding, Error> {
    faults::point("check");
    let evidence = Evidence {
        selfie: subject.face(MediaKind::Selfie),
        other_side: subject.other_side(),
        document: subject.document.as_ref().map(|document| document as &dyn DocumentEvidence),
        claims: &subject.claims,
    };
    let calibration = engine.calibrations.get(check.name());
    let operating_point = calibration.and_then(|loaded| loaded.calibration.operating_point(&request.operating_point));
    check.run(&evidence, &Terms { calibration, operating_point, parameters: &request.parameters, today: subject.today })
}
