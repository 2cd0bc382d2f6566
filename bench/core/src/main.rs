//! What the state machine costs: memory for each waiting task, and time for each task's whole way
//! (submit, assign, complete) while 10 thousand to 10 million others wait.
//!
//! Nothing is stored and nothing is sent: this is the machine alone. Each figure is taken in a
//! process of its own, so that one does not find the memory of another.
//!
//! `bench-core` measures everything; `bench-core 10000 1000000` at these numbers of waiting tasks.

mod load;

use std::{env, io, process::Command, time::Instant};

use load::{Load, Waiting};

/// As in the `rota` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Tasks that go their whole way while the clock runs.
const CYCLES: u64 = 400_000;
/// Of each figure the best of so many runs is kept: the others were disturbed by something else.
const RUNS: usize = 3;

const GOAL_BYTES: f64 = 200.0;
const GOAL_EXPONENT: f64 = 0.05;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [figure, waiting, tasks] = &arguments[..]
        && let Some(waiting) = Waiting::parse(waiting)
    {
        let tasks = tasks.parse().map_err(io::Error::other)?;
        say(&format!("{}", measure(figure, waiting, tasks)?));
        return Ok(());
    }
    let sizes: Result<Vec<u64>, _> = arguments.iter().map(|size| size.parse()).collect();
    let sizes = sizes.map_err(io::Error::other)?;
    report(if sizes.is_empty() { &SIZES } else { &sizes })
}

fn report(sizes: &[u64]) -> io::Result<()> {
    say(&format!("{:22} {:>10} {:>8} {:>10}", "others wait", "others", "B/task", "ns/cycle"));
    for waiting in Waiting::ALL {
        let mut points = Vec::new();
        for size in sizes {
            let bytes = in_a_process("bytes", waiting, *size)?;
            let mut cycle = f64::INFINITY;
            for _ in 0..RUNS {
                cycle = cycle.min(in_a_process("cycle", waiting, *size)?);
            }
            let name = waiting.name();
            say(&format!("{name:22} {size:>10} {bytes:>8.1} {cycle:>10.0}"));
            if *size >= 1_000_000 && bytes > GOAL_BYTES {
                say(&format!("  over the goal of {GOAL_BYTES} B"));
            }
            points.push((*size as f64, cycle));
        }
        let exponent = exponent(&points);
        let verdict = if exponent <= GOAL_EXPONENT { "within" } else { "over" };
        say(&format!(
            "  cost grows with the exponent {exponent:.3}: {verdict} the goal of {GOAL_EXPONENT}"
        ));
    }
    for size in sizes {
        let worst = in_a_process("worst", Waiting::Scheduled, *size)?;
        say(&format!("a day in which {size} become due: the longest step takes {worst:.1} ms"));
    }
    Ok(())
}

fn in_a_process(figure: &str, waiting: Waiting, tasks: u64) -> io::Result<f64> {
    let me = env::current_exe()?;
    let tasks = tasks.to_string();
    let output = Command::new(me).args([figure, waiting.name(), &tasks]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| io::Error::other(format!("{figure}: {output:?}")))
}

fn measure(figure: &str, waiting: Waiting, tasks: u64) -> io::Result<f64> {
    match figure {
        "bytes" => {
            let before = resident_bytes()?;
            let load = Load::new(waiting, tasks);
            let bytes = resident_bytes()? - before;
            drop(load);
            Ok(bytes / tasks as f64)
        }
        "cycle" => {
            let mut load = Load::new(waiting, tasks);
            load.cycle(CYCLES / 4);
            let start = Instant::now();
            load.cycle(CYCLES);
            Ok(start.elapsed().as_secs_f64() * 1e9 / CYCLES as f64)
        }
        "worst" => Ok(Load::new(waiting, tasks).worst_step_of_a_day().as_secs_f64() * 1e3),
        other => Err(io::Error::other(format!("no such figure: {other}"))),
    }
}

/// The slope of the line of best fit through the logarithms.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<_> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let rise: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let run: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    rise / run
}

/// Memory of this process, as the kernel counts it.
fn resident_bytes() -> io::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| io::Error::other("no VmRSS in /proc/self/status"))
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
