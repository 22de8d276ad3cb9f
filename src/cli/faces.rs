//! `vouch faces IMAGE`: finds faces, prints them as a table or JSON, and draws them on a copy of the picture.
//!
//! Called by `cli`. The daemon finds the faces; the client decodes the picture only to draw on it, by the operator's wish.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::connect::{self, CallArgs, Failure, Target};
use super::draw;
use super::report::{Paint, models_to_json, warning_to_json, warning_to_text};
use crate::api::proto::{DetectFacesRequest, DetectFacesResponse, Face};

#[derive(Debug, Args)]
pub struct FacesArgs {
    /// The picture
    image: PathBuf,
    /// Write a copy of the picture with boxes, landmarks, scores and pose drawn on it (.png or .jpg)
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    #[command(flatten)]
    pub call: CallArgs,
}

/// Prints the faces; the exit code is 0 also when there is none.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(args: &FacesArgs, target: &Target) -> Result<u8, Failure> {
    let picture = connect::read_picture(&args.image)?;
    let request = connect::request(target, DetectFacesRequest { image: picture.clone() })?;
    let mut client = connect::connect(target).await?;
    let answer = connect::answer(target, connect::patience(target), client.detect_faces(request))
        .await
        .map_err(|failure| failure.naming(vec![("image".into(), args.image.clone())]))?;
    let found = answer.into_inner();
    let out = std::io::stdout();
    let text = if args.call.json {
        format!("{}\n", to_json(&found))
    } else {
        to_text(&found, Paint { on: super::colour_wanted(&out) })
    };
    std::io::Write::write_all(&mut out.lock(), text.as_bytes())?;
    if let Some(path) = &args.draw {
        let mut canvas = draw::canvas(&args.image, &picture, 0)?;
        draw::faces(&mut canvas, &found);
        draw::save(&canvas, path)?;
    }
    Ok(0)
}

fn to_json(found: &DetectFacesResponse) -> Value {
    let faces: Vec<Value> = found.faces.iter().map(face_to_json).collect();
    json!({
        "faces": faces,
        "width_px": found.width_px,
        "height_px": found.height_px,
        "rotation_deg": found.rotation_deg,
        "warnings": found.warnings.iter().map(warning_to_json).collect::<Vec<_>>(),
        "models": models_to_json(&found.models),
        "duration_ms": found.duration_ms,
    })
}

/// The JSON form of a face.
pub fn face_to_json(face: &Face) -> Value {
    json!({
        "box": face.r#box.as_ref().map(|b| json!({"x": b.x, "y": b.y, "width": b.width, "height": b.height})),
        "score": face.score,
        "landmarks": face.landmarks.iter().map(|p| json!({"x": p.x, "y": p.y})).collect::<Vec<_>>(),
        "quality": face.quality.as_ref().map(|q| json!({
            "inter_eye_px": q.inter_eye_px, "sharpness": q.sharpness, "luma_mean": q.luma_mean,
            "under_exposed": q.under_exposed, "over_exposed": q.over_exposed,
            "yaw_deg": q.yaw_deg, "pitch_deg": q.pitch_deg, "roll_deg": q.roll_deg,
            "face_presence": q.face_presence, "cut_off_px": q.cut_off_px,
        })),
    })
}

fn to_text(found: &DetectFacesResponse, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} {} in {} × {} px, turned by {}°, {:.1} ms",
        found.faces.len(),
        if found.faces.len() == 1 { "face" } else { "faces" },
        found.width_px,
        found.height_px,
        found.rotation_deg,
        found.duration_ms
    );
    if !found.faces.is_empty() {
        let header = format!(
            "{:>3} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {:>9} {:>5} {:>8}",
            "#", "x", "y", "width", "height", "score", "eyes", "yaw", "pitch", "roll", "sharpness", "luma", "presence"
        );
        let _ = writeln!(text, "{}", paint.dim(&header));
    }
    for (number, face) in found.faces.iter().enumerate() {
        let b = face.r#box.unwrap_or_default();
        let _ = write!(
            text,
            "{number:>3} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>6.3}",
            b.x, b.y, b.width, b.height, face.score
        );
        if let Some(q) = &face.quality {
            let _ = write!(
                text,
                " {:>6.1} {:>6.1} {:>6.1} {:>6.1} {:>9.1} {:>5.0} {:>8.2}",
                q.inter_eye_px, q.yaw_deg, q.pitch_deg, q.roll_deg, q.sharpness, q.luma_mean, q.face_presence
            );
        }
        text.push('\n');
    }
    for warning in &found.warnings {
        let _ = writeln!(text, "{}", warning_to_text(warning, paint));
    }
    text
}
