//! `MatchFaces`: the check `face_match` alone.

use tonic::Status;

use super::convert;
use super::proto::{MatchFacesRequest, MatchFacesResponse};
use super::request::Call;
use crate::checks::MediaKind;
use crate::pipeline::source::Media;
use crate::pipeline::verify::CheckRequest;

/// # Errors
/// Those of one check.
pub async fn match_faces(call: Call, request: MatchFacesRequest) -> Result<MatchFacesResponse, Status> {
    let media = vec![
        Media { kind: MediaKind::Selfie, data: request.probe, field: "probe".into() },
        Media { kind: MediaKind::Reference, data: request.reference, field: "reference".into() },
    ];
    let check =
        CheckRequest { name: "face_match".into(), operating_point: request.operating_point, ..CheckRequest::default() };
    let result = call.one_check(media, check).await?;
    Ok(MatchFacesResponse { result: Some(convert::check_result(&call.engine, result)) })
}
