//! The user's terminal in raw mode, and back again on every way out.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal};
use wire::TerminalSize;

/// Standard input in raw mode; Drop restores what was before, also when a panic unwinds.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// None where standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then nothing is left to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Size of the terminal, or the usual one where it does not say.
pub(crate) fn size() -> TerminalSize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            TerminalSize { columns: size.ws_col, rows: size.ws_row }
        }
        Ok(_) | Err(_) => TerminalSize { columns: 80, rows: 24 },
    }
}

/// Reads a line without showing it.
pub(crate) fn read_hidden_line() -> io::Result<String> {
    struct Echo(Termios);
    impl Drop for Echo {
        fn drop(&mut self) {
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
        }
    }
    let before = tcgetattr(io::stdin())?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Drain, &hidden)?;
    let _restored = Echo(before);
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line)
}
