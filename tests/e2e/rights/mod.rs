//! What each set of rights allows, asked by the programs that people have.

mod append_only;
mod drop_box;

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use coffre_tests::{Gateway, run_ok};

/// A key and a token of the quickstart's user with one set of rights.
struct Narrow {
    key: String,
    token: String,
}

impl Narrow {
    fn new(gateway: &Gateway, directory: &Path, rights: &str) -> Result<Self> {
        let key = gateway.add_key(&gateway.user, directory, rights, &["--rights", rights])?.secret;
        Ok(Self { key, token: gateway.add_token(&gateway.user, &["--rights", rights])?.secret })
    }

    fn rclone_sftp(&self, gateway: &Gateway) -> Command {
        let mut command = gateway.rclone_sftp();
        command.env("RCLONE_CONFIG_COFFRE_KEY_FILE", &self.key).args(["--retries", "1"]);
        command
    }

    fn rclone_webdav(&self, gateway: &Gateway) -> Result<Command> {
        let obscured = run_ok(Command::new("rclone").args(["obscure", &self.token]))?.text();
        let mut command = gateway.rclone_webdav()?;
        command.env("RCLONE_CONFIG_COFFRE_PASS", obscured.trim()).args(["--retries", "1"]);
        Ok(command)
    }

    fn curl(&self, gateway: &Gateway) -> Command {
        gateway.curl_as(&gateway.user, &self.token)
    }

    /// The status that a request of curl's ends with.
    fn status(&self, gateway: &Gateway, arguments: &[&str]) -> Result<u32> {
        let mut command = self.curl(gateway);
        command.args(["--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments);
        Ok(run_ok(&mut command)?.text().trim().parse()?)
    }
}
