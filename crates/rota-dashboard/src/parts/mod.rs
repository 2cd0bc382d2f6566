//! What pages are made of: one function for each part. All text is escaped, and text of users is isolated, so that its
//! direction cannot change what stands beside it.

mod chart;
mod curve;
mod icons;
mod panel;
mod text;
mod tree;
mod value;

pub(crate) use chart::share;
pub(crate) use curve::curves;
pub(crate) use icons::icon;
pub(crate) use panel::{
    Attention, Pager, Weight, attention, empty, failed, pager, tile, trouble_panel, unread,
};
pub(crate) use text::{copy, count, cut, id, name, plural};
pub(crate) use tree::{rest, size, tree};
pub(crate) use value::{duration, facts, labels, span, state, status, status_of, time, when};
