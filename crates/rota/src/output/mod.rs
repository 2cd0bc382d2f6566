//! Printing: tables for people, JSON for programs. Everything that this program prints goes through here,
//! so that no text of others reaches a terminal unescaped.

mod document;
mod format;
mod paint;
mod screen;
mod stream;
mod table;
mod template;
mod times;

pub(crate) use document::{data, list, next};
pub(crate) use format::{Asked, Colour, Format, Times};
pub(crate) use screen::{set_screen, shows_colour};
pub(crate) use stream::{
    confirm, counted, error, is_interactive, json_note, line, more, note, piece, result, stream,
    text, verbatim,
};
pub(crate) use table::{Column, Table};
pub(crate) use times::{coarse, relative, time, time_and_distance, when};
