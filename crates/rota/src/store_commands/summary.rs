//! Shows what a store or a file holds.

use rota_engine::transfer::{Contents, space_names};

use crate::{
    exit::Failure,
    output::{self, Column, Table},
};

/// Prints the records by space.
pub(super) fn print(contents: &Contents) -> Result<(), Failure> {
    let mut table =
        Table::new([Column::new("SPACE").keep(), Column::new("RECORDS"), Column::new("BYTES")]);
    for name in space_names() {
        if let Some(space) = contents.spaces.get(name) {
            table.row([name.to_owned(), space.records.to_string(), space.bytes.to_string()]);
        }
    }
    table.row(["all".to_owned(), contents.records.to_string(), contents.bytes.to_string()]);
    table.print()?;
    output::line("")
}
