//! `DetectFaces`: all faces of a picture, with pose and quality of the main one.

use std::sync::Arc;
use std::time::Instant;

use tonic::Status;

use super::convert;
use super::proto::{self, DetectFacesRequest, DetectFacesResponse};
use super::request::Call;
use crate::checks::{FaceEvidence, MediaKind};
use crate::error::Error;
use crate::face::Face;
use crate::face::quality::FaceQuality;
use crate::models::manifest::Role;
use crate::pipeline::picture::{Picture, Search};
use crate::pipeline::source::{Listener, Media};

/// # Errors
/// Those of decoding and of the models.
pub async fn detect_faces(call: Call, request: DetectFacesRequest) -> Result<DetectFacesResponse, Status> {
    let response = call
        .until_deadline(async {
            let media = Media { kind: MediaKind::Selfie, data: request.image, field: "image".into() };
            call.engine.check_size(&media.data, &media.field)?;
            let place = call.enter(media.data.len() as u64).await?;
            let deaf: Arc<Listener> = Arc::new(|_, _| {});
            let picture = call.engine.picture(media, &call.context, &deaf);
            let started = Instant::now();
            let detected = tokio::task::spawn_blocking(move || {
                // Held until the work has ended, also when the caller has gone before.
                let _place = place;
                response(&picture)
            });
            let mut response = detected
                .await
                .unwrap_or_else(|_| Err(Error::internal("detection panicked; its place stands in the journal")))?;
            response.models = convert::model_refs(&call.engine.registry, &[Role::FaceDetector, Role::FaceLandmarks]);
            response.duration_ms = convert::milliseconds(started.elapsed());
            Ok(response)
        })
        .await?;
    Ok(response)
}

fn response(picture: &Picture) -> Result<DetectFacesResponse, Error> {
    let found = picture.found(Search::AllFaces)?;
    let quality = picture.quality()?;
    let faces = found.faces.faces.iter().enumerate().map(|(index, face)| {
        let quality = quality.filter(|_| index == 0).map(face_quality);
        face_message(&found.in_source(face), quality)
    });
    let [width_px, height_px] = found.source_size;
    let mut warnings: Vec<_> = found.faces.warnings(MediaKind::Selfie).into_iter().map(convert::warning).collect();
    // The picture of this call has no kind.
    warnings.iter_mut().for_each(|warning| warning.media = proto::MediaKind::Unspecified.into());
    Ok(DetectFacesResponse {
        faces: faces.collect(),
        width_px,
        height_px,
        rotation_deg: found.faces.rotation.degrees(),
        warnings,
        models: Vec::new(),
        duration_ms: 0.0,
    })
}

/// A face as a message.
pub fn face_message(face: &Face, quality: Option<proto::FaceQuality>) -> proto::Face {
    let bounds = &face.bounds;
    proto::Face {
        r#box: Some(proto::Box { x: bounds.x, y: bounds.y, width: bounds.width, height: bounds.height }),
        score: face.score,
        landmarks: face.landmarks.iter().map(|&[x, y]| proto::Point { x, y }).collect(),
        quality,
    }
}

fn face_quality(quality: FaceQuality) -> proto::FaceQuality {
    proto::FaceQuality {
        inter_eye_px: quality.inter_eye_px,
        sharpness: quality.sharpness,
        luma_mean: quality.luma_mean,
        under_exposed: quality.under_exposed,
        over_exposed: quality.over_exposed,
        yaw_deg: quality.pose.yaw_deg,
        pitch_deg: quality.pose.pitch_deg,
        roll_deg: quality.pose.roll_deg,
        face_presence: quality.pose.presence,
        cut_off_px: quality.cut_off_px,
    }
}
