//! Vaults whose key their customer holds: what they show while they are locked, how they open, what their secrets leave where.

mod escrow;
mod locked;
mod secrets;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::write_file;
use coffre_tests::gateway::binary;
use coffre_tests::{Finished, Gateway, run};

const PASSPHRASE: &str = "vanilla crank tourism obsidian ferret lagoon";
const SECOND: &str = "quarry mitten plasma ardent jigsaw rhubarb";
const CANARY: &str = "CANARY-91c2-patient-martin";

/// A customer-held vault `demo/held` on a gateway, and a user who has it below `/held`, and a managed vault beside it.
struct Held {
    gateway: Gateway,
    work: tempfile::TempDir,
    key: String,
    token: String,
}

/// Runs the command line with lines on its standard input.
fn told(gateway: &Gateway, arguments: &[&str], lines: &[&str]) -> Result<Finished> {
    let input = [&lines.join("\n"), "\n"].concat();
    run(Command::new(binary()?).arg("--data").arg(&gateway.data).args(arguments), input.as_bytes())
}

/// The same; it must succeed.
fn tell(gateway: &Gateway, arguments: &[&str], lines: &[&str]) -> Result<String> {
    let finished = told(gateway, arguments, lines)?;
    ensure!(finished.status.success(), "{arguments:?}: {}{}", finished.text(), finished.stderr);
    Ok(finished.text())
}

impl Held {
    /// Made with `more` options of `vault add`; locked, empty.
    fn new(more: &[&str]) -> Result<Self> {
        let (gateway, work) = (Gateway::start()?, tempfile::tempdir()?);
        let add = [&["vault", "add", "demo/held", "--key", "passphrase"], more].concat();
        tell(&gateway, &add, &[PASSPHRASE])?;
        let mounts = ["--mount", "/held=held,read-write", "--mount", "/beside=demo,read-write"];
        gateway.admin(&[&["user", "add", "demo/holder"], &mounts[..]].concat())?;
        let key = gateway.add_key("demo/holder", work.path(), "key", &[])?.secret;
        let token = gateway.add_token("demo/holder", &[])?.secret;
        Ok(Self { gateway, work, key, token })
    }

    fn unlock(&self, time: &str) -> Result<String> {
        tell(&self.gateway, &["vault", "unlock", "demo/held", "--for", time], &[PASSPHRASE])
    }

    fn sftp(&self, batch: &str) -> Result<Finished> {
        self.gateway.sftp_as("holder", &self.key, batch)
    }

    /// The status of a WebDAV request.
    fn status(&self, arguments: &[&str], path: &str) -> Result<u16> {
        let mut curl = self.gateway.curl_as("holder", &self.token);
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments);
        let finished = run(curl.arg(self.gateway.url(path)), b"")?;
        Ok(finished.text().parse()?)
    }

    /// Unlocks, stores a file full of canaries as `held/there/CANARY`, and returns its path here.
    fn fill(&self) -> Result<PathBuf> {
        self.unlock("1h")?;
        let file = self.work.path().join("file");
        write_file(&file, CANARY.repeat(20_000).as_bytes(), 1_500_000_000)?;
        let put = self.sftp(&format!("mkdir held/there\nput {} held/there/{CANARY}\n", file.display()))?;
        ensure!(put.status.success(), "{}{}", put.text(), put.stderr);
        Ok(file)
    }

    /// Gets the file that `fill` stored.
    fn get(&self, to: &Path) -> Result<Finished> {
        self.sftp(&format!("get held/there/{CANARY} {}\n", to.display()))
    }
}
