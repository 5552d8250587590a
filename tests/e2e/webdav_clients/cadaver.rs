//! cadaver, the command line of neon.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::{Gateway, run, run_ok};

#[test]
fn cadaver_lists_stores_fetches_moves_and_sets_properties() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let netrc = work.path().join(".netrc");
    let host = gateway.webdav.trim_start_matches("https://").split(':').next().unwrap_or_default().to_owned();
    fs::write(&netrc, format!("machine {host}\nlogin {}\npassword {}\n", gateway.user, gateway.token))?;
    run_ok(Command::new("chmod").arg("600").arg(&netrc))?;
    let content = noise(5, 200_000);
    fs::write(work.path().join("here.bin"), &content)?;
    // At a terminal it asks whether to trust a certificate that its library does not know; without one it gives up.
    let script = "y\nmkcol dir\nput here.bin dir/there.bin\ncopy dir/there.bin dir/copy.bin\nmove dir/copy.bin dir/moved.bin\n\
        ls dir\npropset dir/there.bin color blue\npropget dir/there.bin color\nget dir/moved.bin back.bin\n\
        delete dir/moved.bin\nls dir\nrmcol dir\nls\nquit\n";
    let finished = run(
        Command::new("script")
            .args(["-qec", &format!("cadaver {}", gateway.webdav), "/dev/null"])
            .env("HOME", work.path())
            .env("TERM", "dumb")
            .current_dir(work.path()),
        script.as_bytes(),
    )?;
    let said = finished.text();
    ensure!(finished.status.success(), "{said}\n{}", finished.stderr);
    ensure!(!said.contains("failed"), "{said}");
    ensure!(fs::read(work.path().join("back.bin"))? == content, "{said}");
    for wanted in ["there.bin", "moved.bin", "200000", "blue", "collection is empty"] {
        ensure!(said.contains(wanted), "{wanted}: {said}");
    }
    Ok(())
}
