//! `CheckPassiveLiveness`: the check `passive_liveness` alone.

use tonic::Status;

use super::convert;
use super::proto::{CheckPassiveLivenessRequest, CheckPassiveLivenessResponse};
use super::request::Call;
use crate::checks::MediaKind;
use crate::pipeline::source::Media;
use crate::pipeline::verify::CheckRequest;

/// # Errors
/// Those of one check.
pub async fn check_passive_liveness(
    call: Call,
    request: CheckPassiveLivenessRequest,
) -> Result<CheckPassiveLivenessResponse, Status> {
    let media = vec![Media { kind: MediaKind::Selfie, data: request.selfie, field: "selfie".into() }];
    let check = CheckRequest {
        name: "passive_liveness".into(),
        operating_point: request.operating_point,
        ..CheckRequest::default()
    };
    let result = call.one_check(media, check).await?;
    Ok(CheckPassiveLivenessResponse { result: Some(convert::check_result(&call.engine, result)) })
}
