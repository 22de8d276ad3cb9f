//! The operator's command line. Everything is in `vouch::cli`; this file only starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    vouch::cli::main()
}
