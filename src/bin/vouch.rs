//! The operator's command line. Everything is in `vouch::cli`; this file only starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Some commands run models themselves.
    vouch::ops::process::forbid_telemetry();
    vouch::cli::main()
}
