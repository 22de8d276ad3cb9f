//! `vouch scan`: pictures of one machine-readable zone as if they were the frames of a camera.
//!
//! Called by `cli`. The next picture is sent when the answer to the one before has come, so that none is dropped.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;

use super::connect::{self, CallArgs, Failure, Target};
use super::reading::{field_to_json, field_to_text, mrz_to_json, mrz_to_text, quad_to_json};
use super::report::{Paint, models_to_json, warning_to_json, warning_to_text};
use crate::api::proto::{ScanMrzEvent, ScanMrzRequest};

/// Exit codes of an outcome: proved, read but not proved, nothing read.
const PASS: u8 = 0;
const REVIEW: u8 = 2;
const INCONCLUSIVE: u8 = 3;

#[derive(Debug, Args)]
pub struct ScanArgs {
    /// Pictures of one document, in the order in which they were taken
    #[arg(required = true, value_name = "IMAGE")]
    frames: Vec<PathBuf>,
    #[command(flatten)]
    pub call: CallArgs,
}

/// Sends the pictures until the reading is proved, prints what is known after each, and the fields at the end. The exit code is 0 if the
/// reading was proved, 2 if there is one that was not, and 3 if there is none.
///
/// # Errors
/// Any [`Failure`].
pub async fn scan(args: &ScanArgs, target: &Target) -> Result<u8, Failure> {
    let mut client = connect::connect(target).await?;
    let (frames, stream) = mpsc::unbounded_channel();
    let mut request = Request::new(UnboundedReceiverStream::new(stream));
    request.set_timeout(target.timeout);
    let until = connect::patience(target);
    let mut out = std::io::stdout();
    let paint = Paint { on: super::colour_wanted(&out) };
    let mut pictures = args.frames.iter();
    // Dropped after the last picture, which ends the stream.
    let mut frames = Some(frames);
    let mut send = || -> Result<(), Failure> {
        let Some(path) = pictures.next() else {
            frames = None;
            return Ok(());
        };
        let frame = connect::read_picture(path)?;
        // If nobody takes it the daemon has ended the stream, and says why there.
        let _ = frames.as_ref().map(|frames| frames.send(ScanMrzRequest { frame }));
        Ok(())
    };
    send()?;
    let mut events = connect::answer(target, until, client.scan_mrz(request)).await?.into_inner();
    let mut last = ScanMrzEvent::default();
    while let Some(event) = connect::answer(target, until, events.message()).await? {
        let line = if args.call.json { format!("{}\n", to_json(&event)) } else { to_text(&event, paint) };
        out.write_all(line.as_bytes())?;
        last = event;
        if last.proved {
            break;
        }
        send()?;
    }
    if !args.call.json {
        let mut text = last.mrz.iter().map(|mrz| mrz_to_text(mrz, "", paint)).collect::<String>();
        text.extend(last.fields.iter().map(|field| field_to_text(field, "", paint)));
        out.write_all(text.as_bytes())?;
    }
    Ok(match (last.proved, last.mrz) {
        (true, _) => PASS,
        (false, Some(_)) => REVIEW,
        (false, None) => INCONCLUSIVE,
    })
}

fn to_json(event: &ScanMrzEvent) -> Value {
    json!({
        "elapsed_ms": event.elapsed_ms,
        "frame": event.frame,
        "frames_dropped": event.frames_dropped,
        "frames_used": event.frames_used,
        "quad": quad_to_json(&event.quad),
        "mrz": event.mrz.as_ref().map(mrz_to_json),
        "fields": event.fields.iter().map(field_to_json).collect::<Vec<_>>(),
        "proved": event.proved,
        "warning": event.warning.as_ref().map(warning_to_json),
        "models": models_to_json(&event.models),
    })
}

fn to_text(event: &ScanMrzEvent, paint: Paint) -> String {
    let state = match (&event.warning, &event.mrz) {
        (Some(warning), _) => warning_to_text(warning, paint),
        (None, None) => "no zone yet".to_owned(),
        (None, Some(_)) if event.proved => format!("proved, frames: {}", event.frames_used),
        (None, Some(mrz)) if mrz.check_digits_valid => {
            format!("all check digits are right, frames: {}", event.frames_used)
        }
        (None, Some(_)) => format!("read, frames: {}", event.frames_used),
    };
    format!(
        "{} {} {state}\n",
        paint.dim(&format!("{:7.1} ms", event.elapsed_ms)),
        paint.bold(&format!("frame {}", event.frame))
    )
}
