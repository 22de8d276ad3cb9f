//! The terminal as a screen: the alternate one, keys without waiting for a line, and everything put back at the end.
//!
//! Called by `top`. Whatever ends the command puts the terminal back: the value's end, a panic (whose message then appears on the usual screen), and the signals, which end the command in the
//! usual way. Done with `termios(3)` and a few control sequences (ECMA-48, and xterm's for the alternate screen): a crate for terminal interfaces would bring dozens of others for one
//! table. Left out: what is drawn (`view`).

use std::io::{IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use nix::libc;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Assumed where the terminal does not tell: that of a VT100.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// How to put the terminal back; `None` while it is as it was.
static BEFORE: Mutex<Option<Before>> = Mutex::new(None);

struct Before {
    /// `None` if keys come from no terminal.
    input: Option<Termios>,
}

/// The screen while it is ours.
pub struct Screen {
    keys: mpsc::UnboundedReceiver<u8>,
}

impl Screen {
    /// Takes the terminal of standard output, and the keys of standard input if that is one too.
    ///
    /// # Errors
    /// If the terminal refuses.
    pub fn enter() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        let input = stdin.is_terminal().then(|| tcgetattr(&stdin)).transpose()?;
        if let Some(before) = &input {
            let mut raw = before.clone();
            // Signals stay keys (^C), but ^Z would leave a screen that nobody puts back.
            raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            raw.control_chars[SpecialCharacterIndices::VSUSP as usize] = libc::_POSIX_VDISABLE;
            tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        }
        let has_keys = input.is_some();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Before { input });
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            put_back();
            hook(panic);
        }));
        let (send, keys) = mpsc::unbounded_channel();
        if has_keys {
            // Ends with the process: a read of a terminal cannot be given up.
            std::thread::Builder::new().name("keys".into()).spawn(move || {
                let mut key = [0; 1];
                while matches!(std::io::Read::read(&mut std::io::stdin(), &mut key), Ok(1)) {
                    if send.send(key[0]).is_err() {
                        break;
                    }
                }
            })?;
        }
        let screen = Self { keys };
        write(ENTER)?;
        Ok(screen)
    }

    /// The next key. Never returns where there are none.
    pub async fn key(&mut self) -> u8 {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    /// Shows lines, each no longer than the screen is wide, and no more than it has.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn show(&mut self, lines: &[String]) -> std::io::Result<()> {
        // Lines are written over what was there, and the rest of each is cleared, so that nothing flickers.
        write(&format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put_back();
    }
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn put_back() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Before { input }) = before {
        // There is nobody to tell of a failure.
        let _ = write(LEAVE);
        if let Some(input) = input {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &input);
        }
    }
}

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

/// Columns and rows of the terminal of standard output.
pub fn size() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a `winsize` to the place that it is given, which is one.
    let told = unsafe { window_size(std::io::stdout().as_raw_fd(), &mut size) };
    match (told, size.ws_col, size.ws_row) {
        (Err(_), ..) | (_, 0, _) | (_, _, 0) => USUAL_SIZE,
        (Ok(_), columns, rows) => (columns.into(), rows.into()),
    }
}
