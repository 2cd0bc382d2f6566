//! Generates `crates/rota-proto/generated` from the protobuf files, without `protoc`: `cargo proto`.
//!
//! The code is committed, so that programs that use Rota's crates do not compile a compiler of protobuf. A test checks
//! that it is what the files say. This crate owns how messages become Rust and JSON ([`json`], with the exceptions in
//! [`table`]) and which calls a service has ([`services`]), and is needed by no other.

mod json;
mod services;
mod table;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use protox::prost::Message as _;

const FILES: [&str; 4] = [
    "rota/v1/rota.proto",
    "rota/v1/schedule.proto",
    "rota/v1/event.proto",
    "rota/node/v1/node.proto",
];

#[expect(clippy::print_stderr, reason = "a program for a terminal")]
fn main() -> ExitCode {
    match generate(&generated()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot generate the code: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The crate with the contract.
fn contract() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is inside of the crate")
}

fn generated() -> PathBuf {
    contract().join("generated")
}

/// Writes the generated files into this directory.
fn generate(out: &Path) -> Result<(), Box<dyn Error>> {
    let files = protox::compile(FILES, [contract().join("proto")])?;
    fs::create_dir_all(out)?;
    fs::write(out.join("descriptor.bin"), files.encode_to_vec())?;
    fs::write(out.join("words.rs"), json::words(&files))?;
    fs::write(out.join("calls.rs"), services::calls(&files))?;
    // In an order that does not depend on a hash: the same message is always the same bytes.
    let config = tonic_prost_build::configure()
        .out_dir(out)
        .emit_rerun_if_changed(false)
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .bytes(".")
        .btree_map(".")
        .extern_path(".google.protobuf.Timestamp", "crate::Date")
        .extern_path(".google.protobuf.Duration", "crate::TimeSpan");
    json::derive(config, &files).compile_fds(files)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn contents(directory: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            all.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
        }
        all.sort();
        Ok(all)
    }

    #[test]
    fn the_generated_code_is_what_the_files_say() {
        let out = tempfile::tempdir().unwrap();
        generate(out.path()).unwrap();
        let (wanted, found) = (contents(out.path()).unwrap(), contents(&generated()).unwrap());
        let names = |all: &[(String, Vec<u8>)]| -> Vec<String> {
            all.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&wanted), names(&found), "run `cargo proto`");
        for ((name, wanted), (_, found)) in wanted.iter().zip(&found) {
            assert!(wanted == found, "{name} is out of date: run `cargo proto`");
        }
    }
}
