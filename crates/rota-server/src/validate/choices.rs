//! Enumerations that the wire and the core have in common: each value has its twin.

use rota_core::{BackfillOrder, BackfillScope, CatchUp, Overlap};
use rota_cron::{Fold, Gap, OnHoliday};
use rota_proto::v1;

use super::Check;

macro_rules! choices {
    ($($read:ident $show:ident $name:ident { $($value:ident)* })*) => {$(
        /// Checks a choice. Absent means the default.
        pub(crate) fn $read(check: &mut Check, field: &str, number: Option<i32>) -> $name {
            match number.map(|number| (number, v1::$name::try_from(number))) {
                None | Some((_, Ok(v1::$name::Unspecified))) => $name::default(),
                $(Some((_, Ok(v1::$name::$value))) => $name::$value,)*
                Some((number, Err(_))) => {
                    let name = stringify!($name);
                    let wrong = format_args!("is {number}; it must be a value of the enum {name}");
                    check.wrong(field, wrong);
                    $name::default()
                }
            }
        }

        /// Maps a choice to the wire.
        pub(crate) fn $show(choice: $name) -> i32 {
            match choice {
                $($name::$value => v1::$name::$value.into(),)*
            }
        }
    )*};
}

choices! {
    gap show_gap Gap { End Skip Shift }
    fold show_fold Fold { First Second Both }
    on_holiday show_on_holiday OnHoliday { Skip Before After }
    overlap show_overlap Overlap { Skip QueueOne QueueAll CancelRunning Allow }
    catch_up show_catch_up CatchUp { Last All None }
    backfill_order show_backfill_order BackfillOrder { OneByOne Parallel }
    backfill_scope show_backfill_scope BackfillScope { Missing All }
}
