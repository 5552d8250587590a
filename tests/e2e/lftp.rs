//! lftp's mirror over SFTP.

use std::process::Command;

use anyhow::Result;
use coffre_tests::files::same_listing;
use coffre_tests::{Gateway, Names, listing, run_ok, sample_tree};

#[test]
fn lftp_mirrors_a_tree_there_and_back() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (here, back) = (work.path().join("here"), work.path().join("back"));
    sample_tree(&here, Names::Utf8)?;
    let connect = format!(
        "ssh -a -x -i {} -o UserKnownHostsFile={} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -F /dev/null",
        gateway.key_file.display(),
        gateway.known_hosts.display()
    );
    let script = format!(
        "set sftp:connect-program \"{connect}\"; set net:max-retries 1; set sftp:auto-confirm no; \
         open -u {},x sftp://127.0.0.1:{}; mirror -R --parallel=4 {} tree; mirror --parallel=4 tree {}; bye",
        gateway.user,
        gateway.sftp_port(),
        here.display(),
        back.display()
    );
    run_ok(Command::new("lftp").args(["--norc", "-c", &script]))?;
    same_listing("there and back", &listing(&here)?, &listing(&back)?)
}
