//! `coffre`: the command line. Exit codes: 0 done, 1 refused or failed (reason on standard error), 2 usage.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use coffre::admin::audit::{Given, offline};
use coffre::admin::{Answer, Request, client, render};
use coffre::cli::{AuditCommand, Cli, Command, ExportArguments, SearchArguments};
use coffre::disaster::{self, RecoverOptions, Told};
use coffre::{config, export, secrecy, serve, setup, telemetry};
use coffre_storage::recover::ReadExtent;

/// The system's allocator keeps half as much again when many threads pass buffers on (tests/bench/RESULTS.md). Its settings
/// are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start();
    if let Err(error) = secrecy::forbid_dumps() {
        tracing::warn!(%error, "a crash could leave keys in a core file");
    }
    match run(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // A closed pipe is the reader's choice.
            drop(writeln!(std::io::stderr(), "coffre: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<bool> {
    let Cli { json, data, command } = cli;
    match command {
        Command::Quickstart { sftp, webdav } => serve::quickstart(&data, sftp, webdav, json).map(|()| true),
        Command::Serve { config } => serve::run(&config::Config::load(&config)?).map(|()| true),
        Command::Init => {
            let local = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
            setup::init(&data, local(2022), local(8443))?;
            print(json, &Answer::from(serde_json::json!({ "data": std::path::absolute(&data)? })))
        }
        Command::Audit(AuditCommand::Verify { directory: Some(directory), checkpoints, verifier }) => {
            print(json, &offline::verify_copy(&directory, &Given { checkpoints, verifier })?)
        }
        Command::Audit(AuditCommand::Search(arguments)) => search(json, &data, arguments),
        Command::Restore { source, key } => tell(json, &disaster::restore(&source, &data, &key)?),
        Command::Recover { packs, key, to, audit, read_data } => {
            let extent = if read_data { ReadExtent::Everything } else { ReadExtent::Places };
            let options = RecoverOptions { packs, key_file: key, to, audit, extent };
            tell(json, &disaster::recover(&options)?)
        }
        Command::Export(ExportArguments { verify: Some(directory), verifier, .. }) => {
            let verified = export::verify(&directory, verifier.as_deref())?;
            print(json, &Answer { good: verified.is_good(), value: serde_json::to_value(verified)? })
        }
        other @ (Command::Customer(_)
        | Command::Vault(_)
        | Command::User(_)
        | Command::Credential(_)
        | Command::Audit(_)
        | Command::Incidents { .. }
        | Command::Check { .. }
        | Command::Gc { .. }
        | Command::Backup { .. }
        | Command::Escrow(_)
        | Command::Export(_)
        | Command::Status) => {
            let certificate = other.certificate_file().map(new_file).transpose()?;
            let proof = other.proof_file().map(new_file).transpose()?;
            match other.into_request()? {
                Some(request) => {
                    let answer = client::run(&data, request)?;
                    // Printed in any case: what was done is done.
                    let printed = match (proof, answer.value["proof"].as_str()) {
                        (Some(mut file), Some(text)) => {
                            file.write_all(text.as_bytes())?;
                            file.sync_all()?;
                            true
                        }
                        // A proof is a text already.
                        (None, Some(text)) if !json => {
                            std::io::stdout().lock().write_all(text.as_bytes())?;
                            true
                        }
                        _ => print(json, &answer)?,
                    };
                    let text =
                        answer.value["certificate"].as_str().or_else(|| answer.value["envelope"].as_str());
                    if let (Some(mut file), Some(text)) = (certificate, text) {
                        file.write_all(text.as_bytes())?;
                        file.sync_all()?;
                    }
                    Ok(printed)
                }
                None => Ok(true),
            }
        }
    }
}

/// A file that is not there yet: what is there is not written over, and that is known before anything is done.
fn new_file(path: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::File::create_new(path).with_context(|| path.display().to_string())
}

/// Page by page, each printed before the next is asked for.
fn search(json: bool, data: &Path, arguments: SearchArguments) -> anyhow::Result<bool> {
    let (query, mut place, mut left) = arguments.into_parts();
    loop {
        place.records_max = place.records_max.min(left);
        let answer = client::run(data, Request::AuditSearch { query: query.clone(), place })?;
        print(json, &answer)?;
        let rows = answer.value.as_array().map_or(&[][..], Vec::as_slice);
        left = left.saturating_sub(rows.len() as u64);
        match rows.last().and_then(|row| row["number"].as_u64()) {
            Some(last) if left > 0 && rows.len() as u64 == place.records_max => place = place.behind(last),
            Some(_) | None => return Ok(true),
        }
    }
}

fn tell(json: bool, told: &Told) -> anyhow::Result<bool> {
    if json {
        return print(true, &told.answer);
    }
    let mut out = std::io::stdout().lock();
    for line in &told.lines {
        // Names are what clients made them: nothing of them reaches the terminal as a command.
        let shown: String = line.chars().flat_map(render::visible).collect();
        writeln!(out, "{shown}")?;
    }
    out.flush()?;
    Ok(told.answer.good)
}

fn print(json: bool, answer: &Answer) -> anyhow::Result<bool> {
    let text = match (json, answer.value["touched"].is_array()) {
        (true, _) => render::json(&answer.value),
        (false, true) => render::text_with_table(&answer.value, "touched"),
        (false, false) => render::text_with_code(&answer.value),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(answer.good)
}
