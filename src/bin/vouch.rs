//! The operator's command line. Everything is in `vouch::cli`; this file only starts it, without telemetry of ONNX Runtime.

use std::process::ExitCode;

fn main() -> ExitCode {
    vouch::ops::process::turn_telemetry_off();
    vouch::cli::main()
}
