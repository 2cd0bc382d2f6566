//! The project's own checks, run as `cargo xtask tidy`.
//!
//! This crate holds what the compiler, clippy and cargo-deny cannot: which room may depend on which
//! ([`edges`]), which module must not name which ([`seams`]), that modules form no circles ([`circles`]), habits of the
//! sources ([`sources`]), and that promises are held ([`promises`]). It changes nothing and is needed by nothing.

mod circles;
mod edges;
mod promises;
mod seams;
mod sources;
mod uses;

use std::{fmt, path::Path, process::ExitCode};

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// Where: a crate, a file, or a file with its line.
    place: String,
    /// What is wrong and why it matters, in one line.
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let verb = std::env::args().nth(1);
    if verb.as_deref() != Some("tidy") {
        eprintln!("usage: cargo xtask tidy");
        return ExitCode::from(2);
    }
    match tidy() {
        Ok(findings) if findings.is_empty() => {
            println!("tidy: nothing found");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            println!("tidy: {} found", findings.len());
            ExitCode::FAILURE
        }
        Err(reason) => {
            eprintln!("tidy could not look: {reason}");
            ExitCode::from(2)
        }
    }
}

fn tidy() -> Result<Vec<Finding>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent")?;
    let packages = edges::workspace(root)?;
    let mut findings = edges::check(&packages);
    findings.extend(seams::check(root)?);
    findings.extend(promises::check(root)?);
    let directories: Vec<_> = packages.iter().map(edges::Package::directory).collect();
    findings.extend(circles::check(root, &directories)?);
    for package in &packages {
        findings.extend(sources::check(root, package.directory())?);
    }
    Ok(findings)
}
