//! Two builds in turn, each round in the other order, so that what the machine does meanwhile falls on
//! both. What counts is the median of the rounds' ratios: a round that was disturbed is slow for both. Tasks
//! a second is what users feel; the server's processor time for a task is what it costs, and varies less
//! where others use the machine.

use std::process::Command;

use crate::{BenchResult, quantile, say};

/// What one run says.
#[derive(Debug, Clone, Copy)]
struct Run {
    tasks_per_second: f64,
    cpu_micros_per_task: f64,
}

/// Runs both so many times and tells the medians of both, and of the ratios.
pub(crate) fn run(before: &str, after: &str, rounds: u32, tasks: u32) -> BenchResult<()> {
    let builds = [before, after];
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    say("round  before: tasks/s, µs of processor a task    after: the same");
    for round in 0..rounds {
        let order = if round.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for at in order {
            runs[at].push(measure(builds[at], tasks)?);
        }
        tell(&format!("{}", round + 1), runs.each_ref().map(|of| of[round as usize]));
    }
    let medians = runs.each_ref().map(|of| Run {
        tasks_per_second: median(of, |run| run.tasks_per_second),
        cpu_micros_per_task: median(of, |run| run.cpu_micros_per_task),
    });
    tell("median", medians);
    let [before, after] = &runs;
    let pairs = before.iter().zip(after);
    let ratios: Vec<Run> = pairs
        .map(|(before, after)| Run {
            tasks_per_second: after.tasks_per_second / before.tasks_per_second,
            cpu_micros_per_task: after.cpu_micros_per_task / before.cpu_micros_per_task,
        })
        .collect();
    say(&format!(
        "after / before: {:.3} of the tasks a second, {:.3} of the processor time a task",
        median(&ratios, |ratio| ratio.tasks_per_second),
        median(&ratios, |ratio| ratio.cpu_micros_per_task),
    ));
    Ok(())
}

fn measure(rota: &str, tasks: u32) -> BenchResult<Run> {
    let output = Command::new(rota)
        .args(["bench", "throughput", "-o", "json", "--tasks", &tasks.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let figure = |pointer: &str| {
        let found = report.pointer(pointer).and_then(serde_json::Value::as_f64);
        found.ok_or_else(|| format!("rota bench says nothing of {pointer}"))
    };
    Ok(Run {
        tasks_per_second: figure("/tasks_per_second")?,
        cpu_micros_per_task: figure("/server/cpu_seconds")? * 1e6 / f64::from(tasks),
    })
}

fn median(runs: &[Run], figure: fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    // Of an even number, the mean of the middle two.
    let upper = values.iter().rev().copied().collect::<Vec<_>>();
    f64::midpoint(quantile(&values, 50), quantile(&upper, 50))
}

fn tell(round: &str, [before, after]: [Run; 2]) {
    let show = |run: Run| format!("{:8.0} {:6.2}", run.tasks_per_second, run.cpu_micros_per_task);
    say(&format!("{round:>6} {:>30} {:>30}", show(before), show(after)));
}
