//! `vouch reload`: has the daemon read models, calibrations and the list of callers anew.
//!
//! Called by `cli`. The same as SIGHUP, with the answer on the terminal.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::connect::{self, CallArgs, Failure, Target};
use crate::api::proto::administration_client::AdministrationClient;
use crate::api::proto::{ReloadRequest, ReloadResponse};

#[derive(Debug, Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    pub call: CallArgs,
}

/// Prints what has changed. The exit code is 0, or 78 if the daemon refused and kept what it had.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(args: &ReloadArgs, target: &Target) -> Result<u8, Failure> {
    let mut client = AdministrationClient::new(connect::channel(target).await?);
    let call = client.reload(connect::request(target, ReloadRequest {})?);
    let done = connect::answer(target, connect::patience(target), call).await?.into_inner();
    let text = if args.call.json { format!("{}\n", to_json(&done)) } else { to_text(&done) };
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes())?;
    Ok(0)
}

fn to_json(done: &ReloadResponse) -> serde_json::Value {
    json!({
        "applied": done.applied, "needs_restart": done.needs_restart,
        "models": done.models, "calibrations": done.calibrations, "undecided": done.undecided,
    })
}

fn to_text(done: &ReloadResponse) -> String {
    let mut text = String::new();
    let kinds = [
        ("in effect", &done.applied),
        ("other models", &done.models),
        ("other calibrations", &done.calibrations),
        ("changed, in effect after a restart", &done.needs_restart),
        ("without a calibration, decide nothing", &done.undecided),
    ];
    for (label, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{label}: {}", names.join(", "));
    }
    if text.is_empty() { "reloaded; nothing has changed\n".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_told_by_kind() {
        assert_eq!(to_text(&ReloadResponse::default()), "reloaded; nothing has changed\n");
        let done = ReloadResponse {
            applied: vec!["calibration.dir".into()],
            calibrations: vec!["age_estimation".into(), "face_match".into()],
            needs_restart: vec!["limits.max_running".into()],
            ..ReloadResponse::default()
        };
        let expected = "in effect: calibration.dir\nother calibrations: age_estimation, face_match\n\
                        changed, in effect after a restart: limits.max_running\n";
        assert_eq!(to_text(&done), expected);
    }
}
