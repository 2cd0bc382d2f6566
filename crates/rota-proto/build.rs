//! Compiles the protobuf contract without needing `protoc` on the machine.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["rota/v1/rota.proto", "rota/node/v1/node.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("rota_descriptor.bin"), files.encode_to_vec())?;
    // In an order that does not depend on a hash: the same message is always the same bytes.
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(files)?;
    Ok(())
}
