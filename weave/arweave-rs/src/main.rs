//! `weft-arweave-rs NODE_URL WALLET FILE [NAME=VALUE…]`: posts a file by arweave-rs and prints the transaction's id.

use std::process::ExitCode;

use weave_arweave_rs::client::upload;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [node, wallet, file, tags @ ..] = &words[..] else {
        eprintln!("usage: weft-arweave-rs NODE_URL WALLET FILE [NAME=VALUE…]");
        return ExitCode::from(2);
    };
    let pairs = tags.iter().filter_map(|tag| tag.split_once('='));
    let tags: Vec<(String, String)> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(upload(node, wallet.as_ref(), file.into(), &tags)) {
        Ok(id) => {
            println!("{id}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("weft-arweave-rs: {error}");
            ExitCode::FAILURE
        }
    }
}
