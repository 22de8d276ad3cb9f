//! `vouch man DIR`: writes the manual pages that clap derives from the argument definitions. Hidden: packages are made with it.
//!
//! Section 1 has a page for `vouch` and one for each of its commands, such as `vouch-models-pull.1`; section 8 the daemon.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::connect::Failure;
use super::{Cli, vouchd};

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write to, which must be there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages.
///
/// # Errors
/// [`Failure::Unwritable`] if one cannot be written.
pub fn run(args: &ManArgs) -> Result<u8, Failure> {
    let unwritable =
        |cause: std::io::Error| Failure::Unwritable { path: args.folder.clone(), reason: cause.to_string() };
    write(&args.folder).map_err(unwritable)?;
    Ok(0)
}

fn write(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)?;
    let mut page = Vec::new();
    Man::new(vouchd::Args::command()).section("8").render(&mut page)?;
    std::fs::write(folder.join("vouchd.8"), page)
}
