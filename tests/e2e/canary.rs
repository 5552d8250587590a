//! Nothing readable reaches the disk: a canary in contents and names is found nowhere.

use std::fs;

use anyhow::Result;
use coffre_tests::Gateway;
use coffre_tests::files::write_file;

const CANARY: &str = "CANARY-7f3a-patient-dupont";

#[test]
fn a_canary_in_content_and_names_is_found_nowhere_on_disk() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    write_file(&file, CANARY.repeat(5000).as_bytes(), 1_500_000_000)?;
    gateway.sftp_batch(&format!(
        "mkdir {CANARY}-dir\nput {} {CANARY}-dir/{CANARY}.txt\nsymlink {CANARY}-target {CANARY}-link\nget {CANARY}-dir/{CANARY}.txt /dev/null\n-get {CANARY}-missing\n",
        file.display()
    ))?;
    let url = gateway.url(&format!("{CANARY}-dav"));
    assert_eq!(gateway.curl_status(&["-T", &file.display().to_string(), &url])?, 201);
    let update = format!("<propertyupdate xmlns='DAV:'><set><prop><x xmlns='urn:{CANARY}'>{CANARY}</x></prop></set></propertyupdate>");
    assert_eq!(gateway.curl_status(&["-X", "PROPPATCH", "--data", &update, &url])?, 207);
    assert_eq!(gateway.curl_status(&[&gateway.url(&format!("{CANARY}-missing"))])?, 404);
    assert_eq!(gateway.curl_status(&["--user", &format!("{CANARY}:{CANARY}"), &url])?, 401);
    // While it runs, after it was killed, after it was stopped.
    assert_absent(&gateway)?;
    gateway.kill()?;
    assert_absent(&gateway)?;
    let mut again = Gateway::start_on(&gateway.data, &gateway.log)?;
    assert_eq!(again.curl_status(&[&again.url(&format!("{CANARY}-dav"))])?, 200);
    again.stop()?;
    assert_absent(&gateway)?;
    Ok(())
}

fn assert_absent(gateway: &Gateway) -> Result<()> {
    let needle = CANARY.as_bytes();
    let root = gateway.data.parent().unwrap_or(&gateway.data);
    let mut searched = 0;
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        assert!(!entry.path().display().to_string().contains("CANARY"), "in a file name");
        if entry.file_type().is_file() {
            let bytes = fs::read(entry.path())?;
            searched += bytes.len();
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", entry.path().display());
        }
    }
    assert!(searched > 100_000, "there is something to search");
    Ok(())
}
