//! What a tick of a schedule and its task cost: processor time of an engine on the embedded store, with workers in
//! the same process and no network. For comparison, tasks that a client submits, with an id of its own or without.
//!
//! `bench-ticks ticks 60000 20000 9`: 60,000 schedules with 20,000 ticks a second, for 9 seconds.
//! `bench-ticks tasks 180000` and `bench-ticks named 180000`: that many tasks.
//!
//! Processor time depends less on what else the machine does than the number of ticks in a second does.

mod load;

use std::{collections::BTreeMap, env, fs, io, time::Instant};

use load::Load;

/// As in the `rota` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let numbers: Result<Vec<u64>, _> = arguments.iter().skip(1).map(|text| text.parse()).collect();
    let numbers = numbers.map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let load = Load::start()?;
        match (arguments.first().map(String::as_str), &numbers[..]) {
            (Some("ticks"), [schedules, rate, seconds]) => {
                let first = load.create_schedules(*schedules, *rate).await;
                load.until(first).await;
                let ticks = rate * seconds;
                measure(&load, ticks, async {}).await?;
            }
            (Some(kind @ ("tasks" | "named")), [tasks]) => {
                measure(&load, *tasks, load.submit(*tasks, kind == "named")).await?;
            }
            _ => return Err(io::Error::other("see the documentation of the program")),
        }
        load.stop().await;
        Ok(())
    })
}

/// Prints what so many tasks cost, from now until all have ended.
async fn measure(load: &Load, tasks: u64, begin: impl Future<Output = ()>) -> io::Result<()> {
    let (began, before) = (Instant::now(), processor_time()?);
    let already = load.ended();
    begin.await;
    load.until_ended(already + tasks).await;
    let (took, after) = (began.elapsed(), processor_time()?);
    let each = 1e6 / tasks as f64;
    say(&format!("{:.0} a second", tasks as f64 / took.as_secs_f64()));
    let mut sum = 0.0;
    for (thread, used) in after {
        let used = used - before.get(&thread).copied().unwrap_or_default();
        sum += used;
        if used * each >= 0.1 {
            say(&format!("{thread:20} {:6.1} µs for each", used * each));
        }
    }
    say(&format!("{:20} {:6.1} µs for each", "sum", sum * each));
    Ok(())
}

/// Processor time of the threads of this process in seconds, by their names.
fn processor_time() -> io::Result<BTreeMap<String, f64>> {
    let mut times = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // It may have ended.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        let name = name.split_once('(').map_or("", |(_, name)| name).to_owned();
        let fields = rest.split_whitespace().skip(11).take(2);
        // The kernel counts in hundredths.
        let used: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
        *times.entry(name).or_default() += used / 100.0;
    }
    Ok(times)
}

fn say(line: &str) {
    use io::Write as _;
    // Nothing is lost if nobody reads it.
    let _ = writeln!(io::stdout(), "{line}");
}
