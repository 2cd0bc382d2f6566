//! The time for the next instant of an expression, for the worst expressions that are legal.
//!
//! Run it with `cargo run --release -p rota-cron --example next_instant`. Goal: at most 100 µs each.

#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::time::{Duration, Instant};

use rota_cron::{Recurrence, RecurrenceSpec, Timestamp};

const EXPRESSIONS: &[&str] = &[
    "* * * * *",
    "30 2 * * *",
    "0 0 29 2 *",
    "0 0 29 2 +MON",
    "59 59 23 29 2 +SUN#5",
    "0 0 0 29 2 ? 2196",
    "0 0 0 29 2 +MON 1972-2199",
    "0 0 31 * +SUN#5",
    "*/7 */11 */5 L-30,LW,15W 2,4,6 +1#5,3L",
];
const ZONES: &[&str] =
    &["UTC", "America/New_York", "Africa/Casablanca", "Antarctica/Troll", "Pacific/Apia"];
const ROUNDS: u32 = 20;

fn main() {
    let mut worst = Duration::ZERO;
    for expression in EXPRESSIONS {
        let mut slowest = Duration::ZERO;
        for zone in ZONES {
            let spec = RecurrenceSpec {
                expressions: vec![(*expression).to_owned()],
                time_zone: Some((*zone).to_owned()),
                ..RecurrenceSpec::default()
            };
            let recurrence = match Recurrence::new(&spec, "") {
                Ok(recurrence) => recurrence,
                Err(error) => {
                    println!("{error}");
                    return;
                }
            };
            // Starts over the whole range of years, two days of each.
            for start in (0..160_i64).map(|year| year * 31_556_952 + 86_400 * (year % 365)) {
                let after = Timestamp::from_seconds(start);
                // The fastest of several: the others wait for the machine.
                let time = (0..ROUNDS).map(|_| {
                    let begun = Instant::now();
                    std::hint::black_box(recurrence.next_after(after, &()));
                    begun.elapsed()
                });
                slowest = slowest.max(time.min().unwrap_or_default());
            }
        }
        println!("{slowest:>12.1?}  {expression}");
        worst = worst.max(slowest);
    }
    println!("{worst:>12.1?}  the slowest");
    println!("{:>12}  bytes of an expression", size_of::<rota_cron::Expression>());
    println!("{:>12}  bytes of a recurrence beside its expressions", size_of::<Recurrence>());
}
