//! `EstimateAge`: the check `age_estimation` alone.

use tonic::Status;

use super::convert;
use super::proto::{EstimateAgeRequest, EstimateAgeResponse};
use super::request::Call;
use crate::checks::MediaKind;
use crate::pipeline::source::Media;
use crate::pipeline::verify::CheckRequest;

/// # Errors
/// Those of one check.
pub async fn estimate_age(call: Call, request: EstimateAgeRequest) -> Result<EstimateAgeResponse, Status> {
    let media = vec![Media { kind: MediaKind::Selfie, data: request.selfie, field: "selfie".into() }];
    let given =
        [("minimum_age_years", request.minimum_age_years), ("challenge_buffer_years", request.challenge_buffer_years)];
    let check = CheckRequest {
        name: "age_estimation".into(),
        parameters: given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
        ..CheckRequest::default()
    };
    let result = call.one_check(media, check).await?;
    Ok(EstimateAgeResponse { result: Some(convert::check_result(&call.engine, result)) })
}
