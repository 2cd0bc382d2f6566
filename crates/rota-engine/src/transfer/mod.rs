//! Work on whole stores, outside a running node: copies from one store to another, checks, exports and imports.
//!
//! Everything here goes over all records by one table, `kinds`, which must have a row for each space of
//! `layout`: a space without a row does not compile. `walk` reads a store in the order of this table,
//! and `digest` counts and sums up what it reads. Both are independent of batches, so the same records have the same
//! checksum in every store and in a file.
//!
//! A store that is written is held by its leadership (`seat`), so that no node can use it meanwhile, and carries a mark
//! until the last batch (`unfinished`), so that no node leads on half of the records after a crash. Reading needs no
//! leadership, because a snapshot is consistent.
//!
//! Nothing here opens a store or a file, or prints: the binary does.

mod check;
mod copy;
mod digest;
mod error;
mod export;
mod faults;
mod file;
mod import;
mod kinds;
mod readable;
mod schedules;
mod seat;
mod side;
mod unfinished;
mod walk;
mod writer;

pub use self::{
    check::{CheckReport, Fault, check},
    copy::{Copied, CopyOptions, copy},
    digest::{Contents, SpaceContents},
    error::TransferError,
    export::{Exported, export},
    file::{FileHeader, FileReader, Portion as FilePortion},
    import::{Imported, import},
    kinds::{Readable, space_names},
    side::{OnProgress, Progress, Side, Stage},
    walk::{Dump, DumpEntry},
};
