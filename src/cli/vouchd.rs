//! The command line of the daemon. It stands in the library, so that its manual page is made like those of the commands ([`super::man`]).

use std::path::PathBuf;

use clap::Parser;

/// Verifies identities on this host, over a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "vouchd", version)]
pub struct Args {
    /// Configuration file (TOML).
    #[arg(long, env = "VOUCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Unix socket to listen on [socket.path].
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory of the model pack [models.pack_dir].
    #[arg(long, value_name = "DIR")]
    pub pack: Option<PathBuf>,
    /// Directory of the calibrations [calibration.dir].
    #[arg(long, value_name = "DIR")]
    pub calibration: Option<PathBuf>,
    /// Where models run: cpu, preferred or required [inference.device].
    #[arg(long)]
    pub device: Option<String>,
    /// Log level: error, warn, info, debug or trace [log.level].
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Print the effective configuration with the origin of what is not a default, and exit: 0 if it is good, else 78.
    #[arg(long)]
    pub check_config: bool,
    /// Let core dumps be written and debuggers attach. They expose the pictures in memory.
    #[arg(long)]
    pub allow_core_dumps: bool,
}
