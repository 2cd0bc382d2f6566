//! What is known of the terminal, and what the global options say about it. Set once, before anything is printed.

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

use super::format::{Asked, Colour, Format, Times};
use crate::exit::Failure;

static SCREEN: OnceLock<Screen> = OnceLock::new();

/// How to print for people.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// Columns of the terminal. None if standard output is no terminal: nothing is cut then.
    pub(super) width: Option<usize>,
    /// `-o wide`: all columns, whole.
    pub(super) wide: bool,
    pub(super) colour: bool,
    pub(super) times: Times,
    pub(super) template: Option<String>,
}

/// Sets the screen. Later calls have no effect.
///
/// # Errors
/// When the template cannot be read.
pub(crate) fn set_screen(asked: &Asked, colour: Colour, times: Times) -> Result<(), Failure> {
    let is_terminal = io::stdout().is_terminal();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let screen = Screen {
        width: is_terminal.then(width),
        wide: asked.format == Format::Wide,
        colour: match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => is_terminal && !no_colour,
        },
        times,
        template: asked.template()?,
    };
    // A second call can only come from a test.
    let _ = SCREEN.set(screen);
    Ok(())
}

/// The screen: without colour, width and template if none was set.
pub(super) fn screen() -> &'static Screen {
    SCREEN.get_or_init(Screen::default)
}

/// Whether standard output shows colours and emphasis.
pub(crate) fn shows_colour() -> bool {
    screen().colour
}

/// The columns of the terminal. A terminal that does not know them gets the 80 of old.
fn width() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0)).max(20)
}
