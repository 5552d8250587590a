//! Nothing readable reaches the disk: a canary in contents and names is found nowhere.

use std::fs;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffre_tests::Gateway;
use coffre_tests::files::{file_holds, hex, noise, write_file};

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
    let update = format!(
        "<propertyupdate xmlns='DAV:'><set><prop><x xmlns='urn:{CANARY}'>{CANARY}</x></prop></set></propertyupdate>"
    );
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

/// The canary as it is, and as a careless log or record would spell it: hexadecimal, base64, UTF-16, a debugged slice.
fn spellings() -> Vec<Vec<u8>> {
    let raw = CANARY.as_bytes();
    let listed = raw.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut all =
        vec![raw.to_vec(), hex(raw).into_bytes(), hex(raw).to_uppercase().into_bytes(), listed.into_bytes()];
    all.push(raw.iter().flat_map(|byte| [*byte, 0]).collect());
    for skipped in 0..3 {
        // Whole groups of three bytes, so that neighbours cannot change the letters.
        let whole = &raw[skipped..skipped + (raw.len() - skipped) / 3 * 3];
        all.push(STANDARD.encode(whole).into_bytes());
    }
    all
}

fn assert_absent(gateway: &Gateway) -> Result<()> {
    let needles = spellings();
    let root = gateway.data.parent().unwrap_or(&gateway.data);
    let mut searched = 0;
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        assert!(!entry.path().display().to_string().contains("CANARY"), "in a file name");
        if entry.file_type().is_file() {
            searched += entry.metadata()?.len();
            assert!(!file_holds(entry.path(), &needles)?, "{}", entry.path().display());
        }
    }
    assert!(searched > 100_000, "there is something to search");
    Ok(())
}

#[test]
fn the_search_finds_a_canary_across_the_border_of_two_pieces() -> Result<()> {
    let work = tempfile::tempdir()?;
    let file = work.path().join("file");
    for spelling in spellings() {
        for start in [0, (4 << 20) - 3, (4 << 20) + 11, (8 << 20) - 1] {
            let mut content = vec![7; start];
            content.extend_from_slice(&spelling);
            fs::write(&file, &content)?;
            assert!(file_holds(&file, &spellings())?, "at {start}");
        }
    }
    fs::write(&file, noise(1, 9 << 20))?;
    assert!(!file_holds(&file, &spellings())?);
    Ok(())
}
