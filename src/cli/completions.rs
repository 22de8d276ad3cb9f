//! `vouch completions SHELL`: prints the completion script that clap derives from the argument definitions.

use clap::{Args, CommandFactory};

use super::Cli;
use super::connect::Failure;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to complete in
    shell: clap_complete::Shell,
}

/// Writes the script to standard output.
///
/// # Errors
/// [`Failure::Output`] if standard output cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<u8, Failure> {
    // Generated into memory first, because clap_complete panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vouch", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script).map_err(Failure::Output)?;
    Ok(0)
}
