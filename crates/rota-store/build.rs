//! Compiles the part of etcd's API that is used, without needing `protoc` on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "etcd")]
    {
        let files = protox::compile(["etcd.proto"], ["proto"])?;
        tonic_prost_build::configure().build_server(false).bytes(".").compile_fds(files)?;
    }
    Ok(())
}
