//! Compiles `proto/` into Rust with protox, so that no `protoc` is needed to build.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["vouch/v1/vouch.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The reflection service serves this file.
    fs::write(out.join("vouch.v1.bin"), prost_encode(&descriptors))?;
    // The codec asks for the names of messages.
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        // Pictures arrive as `Bytes`: slices of the received message, not copies of it.
        .bytes(".")
        .codec_path("crate::api::codec::BoundedCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn prost_encode(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
