//! Compiles the protobuf contract without needing `protoc` on the machine, and derives its JSON form.

#[path = "build/json.rs"]
mod json;
#[path = "build/table.rs"]
mod table;

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    let files = [
        "rota/v1/rota.proto",
        "rota/v1/schedule.proto",
        "rota/v1/event.proto",
        "rota/node/v1/node.proto",
    ];
    let files = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("rota_descriptor.bin"), files.encode_to_vec())?;
    fs::write(out.join("words.rs"), json::words(&files))?;
    // In an order that does not depend on a hash: the same message is always the same bytes.
    let config = tonic_prost_build::configure()
        .build_server(json::has_schemas())
        .bytes(".")
        .btree_map(".")
        .extern_path(".google.protobuf.Timestamp", "crate::Date")
        .extern_path(".google.protobuf.Duration", "crate::TimeSpan");
    json::derive(config, &files).compile_fds(files)?;
    Ok(())
}
