//! A gateway mounted with sshfs in a temporary directory: what programs see that know nothing of SFTP.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::Gateway;
use crate::process::{run, run_ok};

/// Options with which the kernel and sshfs keep nothing, so that every call is a request.
pub const NO_CACHES: &[&str] = &["dir_cache=no", "attr_timeout=0", "entry_timeout=0", "direct_io"];

/// A mounted directory of a user; let go when dropped.
#[derive(Debug)]
pub struct Mount(TempDir);

impl Mount {
    /// Mounts the demo user's root.
    ///
    /// # Errors
    /// When sshfs refuses.
    pub fn new(gateway: &Gateway, options: &[&str]) -> Result<Self> {
        Self::with(gateway, &gateway.ssh_options(), options)
    }

    /// The same, logged in by these options of OpenSSH's.
    ///
    /// # Errors
    /// When sshfs refuses.
    pub fn with(gateway: &Gateway, ssh_options: &[String], options: &[&str]) -> Result<Self> {
        let at = TempDir::new()?;
        let ssh = format!("ssh_command=ssh {}", ssh_options.join(" "));
        let mut command = Command::new("sshfs");
        command.arg(format!("{}@127.0.0.1:/", gateway.user)).arg(at.path());
        // Files of the user are the files of whoever mounts, as everybody has it who mounts.
        command.args(["-o", &ssh, "-o", "idmap=user"]);
        run_ok(command.args(options.iter().flat_map(|option| ["-o", option])))?;
        Ok(Self(at))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Lets it go; nothing of it is kept by the kernel then.
    ///
    /// # Errors
    /// When something is still open in it.
    pub fn unmount(self) -> Result<()> {
        run_ok(Command::new("fusermount3").arg("-u").arg(self.path())).context("unmounting")?;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a test that failed may have something open in it. An error says that it is unmounted.
        drop(run(Command::new("fusermount3").args(["-u", "-z", "-q"]).arg(self.path()), b""));
    }
}
