//! From submission to start, beside what this machine alone takes for the same way.
//!
//! A latency of milliseconds is as much the machine's as Rota's: on a virtual one, a thread that is
//! woken may wait for its processor for longer than the whole way takes. So the machine is measured in
//! turn with Rota, over a bare chain of threads with one durable write in it ([`machine`]), and both
//! are told, and their ratio.
//!
//! `bench-latency target/release/rota [rounds] [seconds]`, from a directory on the disk in question.

mod machine;

use std::{env, io, process::Command, time::Duration};

/// As many tasks a second as `rota bench latency` takes by itself.
const RATE: u32 = 500;
const ROUNDS: u64 = 5;
const SECONDS: u64 = 10;

/// Milliseconds that half, and 99 of 100, took at most.
#[derive(Debug, Clone, Copy)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let Some(rota) = arguments.next() else {
        return Err(io::Error::other("say where rota is: bench-latency target/release/rota"));
    };
    let rounds = number(arguments.next(), ROUNDS)?;
    let seconds = number(arguments.next(), SECONDS)?;
    say(&format!(
        "{:>6} {:>16} {:>16} {:>16}",
        "round", "machine p50/p99", "rota p50/p99", "ratio p50/p99"
    ));
    let (mut machines, mut rotas) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let machine = machine::measure(RATE, Duration::from_secs(seconds))?;
        let rota = measure_rota(&rota, seconds)?;
        tell(&round.to_string(), machine, rota);
        machines.push(machine);
        rotas.push(rota);
    }
    tell("median", median(&machines), median(&rotas));
    Ok(())
}

fn number(argument: Option<String>, otherwise: u64) -> io::Result<u64> {
    argument.map_or(Ok(otherwise), |text| text.parse().map_err(io::Error::other))
}

fn measure_rota(rota: &str, seconds: u64) -> io::Result<Quantiles> {
    let duration = format!("{seconds}s");
    let rate = RATE.to_string();
    let output = Command::new(rota)
        .args(["bench", "latency", "-o", "json", "--rate", &rate, "--duration", &duration])
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let figure = |name: &str| {
        let found =
            report.pointer(&format!("/submit_to_start/{name}")).and_then(serde_json::Value::as_f64);
        found.ok_or_else(|| io::Error::other(format!("rota bench says nothing of {name}")))
    };
    Ok(Quantiles { p50: figure("p50_ms")?, p99: figure("p99_ms")? })
}

/// Of each figure for itself.
fn median(all: &[Quantiles]) -> Quantiles {
    let of = |figure: fn(&Quantiles) -> f64| {
        let mut values: Vec<f64> = all.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Quantiles { p50: of(|it| it.p50), p99: of(|it| it.p99) }
}

fn tell(round: &str, machine: Quantiles, rota: Quantiles) {
    let pair = |it: Quantiles| format!("{:.2} / {:.2}", it.p50, it.p99);
    let ratio = Quantiles { p50: rota.p50 / machine.p50, p99: rota.p99 / machine.p99 };
    say(&format!("{round:>6} {:>16} {:>16} {:>16}", pair(machine), pair(rota), pair(ratio)));
}

#[expect(clippy::print_stdout, reason = "a command that reports")]
fn say(line: &str) {
    println!("{line}");
}
