//! Digests that clients send with their files and ask for afterwards.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use coffre_tests::files::{noise, same_listing, write_file};
use coffre_tests::{Gateway, Names, listing, run_ok, sample_tree};

use super::{ask, get, holds, put, records, sum};

const ASKS: &[u8] =
    b"<propfind xmlns='DAV:' xmlns:o='http://owncloud.org/ns'><prop><o:checksums/></prop></propfind>";

fn rclone(gateway: &Gateway, vendor: &str, url: &str) -> Result<Command> {
    let mut rclone = gateway.rclone_webdav()?;
    rclone.env("RCLONE_CONFIG_COFFRE_VENDOR", vendor).env("RCLONE_CONFIG_COFFRE_URL", url);
    Ok(rclone)
}

#[test]
fn rclone_of_either_vendor_keeps_times_and_compares_hashes_both_ways() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let nextcloud = gateway.url("remote.php/dav/files/demo");
    for (vendor, url) in [("nextcloud", nextcloud.as_str()), ("owncloud", gateway.webdav.as_str())] {
        let rclone = || rclone(&gateway, vendor, url);
        let (here, back) = (work.path().join(vendor), work.path().join(format!("{vendor}-back")));
        let there = format!("coffre:{vendor}");
        sample_tree(&here, Names::Utf8)?;
        // A file of no bytes is not sent with a digest.
        fs::remove_file(here.join("empty"))?;
        run_ok(rclone()?.arg("copy").arg(&here).arg(&there).args(["--transfers", "8"]))?;
        let checked = run_ok(rclone()?.arg("check").arg(&here).arg(&there))?.stderr;
        ensure!(checked.contains("0 differences found"), "{checked}");
        ensure!(!checked.contains("could not be checked"), "{vendor}: {checked}");
        run_ok(rclone()?.arg("copy").arg(&there).arg(&back))?;
        same_listing(vendor, &listing(&here)?, &listing(&back)?)?;

        // Same length, same time, other bytes: only a hash shows it.
        write_file(&here.join("chunk"), &noise(77, 65_536), 1_200_000_002)?;
        fs::remove_file(here.join("one byte"))?;
        let differs = coffre_tests::run(rclone()?.arg("check").arg(&here).arg(&there), b"")?;
        ensure!(!differs.status.success() && differs.stderr.contains("chunk"), "{}", differs.stderr);
        run_ok(rclone()?.arg("sync").arg("--checksum").arg(&here).arg(&there))?;
        run_ok(rclone()?.arg("check").arg(&here).arg(&there))?;
        run_ok(rclone()?.arg("sync").arg("--checksum").arg(&there).arg(&back))?;
        same_listing(vendor, &listing(&here)?, &listing(&back)?)?;
    }
    // One namespace under two addresses.
    holds(&gateway, "nextcloud/chunk", &get(&gateway, "remote.php/dav/files/demo/nextcloud/chunk")?)
}

fn adler32(content: &[u8]) -> String {
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in content {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    format!("{:08x}", high << 16 | low)
}

#[test]
fn an_upload_with_another_checksum_is_refused_and_the_old_file_stays() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(8, 1_500_000);
    put(&gateway, "file", b"the old content")?;
    let right = [
        format!("SHA1:{}", sum("sha1sum", &content)?),
        format!("md5:{}", sum("md5sum", &content)?.to_uppercase()),
        format!("SHA256:{}", sum("sha256sum", &content)?),
        format!("Adler32:{}", adler32(&content)),
    ];
    let mut damaged = content.clone();
    damaged[1_234_567] ^= 1;
    for checksum in &right {
        let header = format!("OC-Checksum: {checksum}");
        let answer = ask(&gateway, "PUT", "file", &[&header], Some(&damaged))?;
        ensure!(answer.status == 400, "{checksum}: {}", answer.head);
        let said = answer.text();
        ensure!(said.contains("<s:exception>") && said.contains("does not match"), "{said}");
        holds(&gateway, "file", b"the old content")?;
        let answer = ask(&gateway, "PUT", "fresh", &[&header], Some(&damaged))?;
        ensure!(
            answer.status == 400 && ask(&gateway, "GET", "fresh", &[], None)?.status == 404,
            "{checksum}"
        );
    }
    let failed =
        |record: &&serde_json::Value| record["action"] == "file-write" && record["outcome"] == "failed";
    ensure!(records(&gateway)?.iter().filter(failed).count() == 8, "a record of each");
    for (at, checksum) in right.iter().enumerate() {
        let header = format!("OC-Checksum: {checksum}");
        let answer = ask(&gateway, "PUT", &format!("right-{at}"), &[&header], Some(&content))?;
        ensure!(answer.status == 201, "{checksum}: {}", answer.head);
        let (tag, id) = (answer.header("OC-ETag"), answer.header("OC-FileId"));
        ensure!(
            tag.is_some() && tag == answer.header("ETag") && id.is_some_and(|id| id.len() >= 40),
            "{}",
            answer.head
        );
        holds(&gateway, &format!("right-{at}"), &content)?;
    }
    let together = format!("OC-Checksum: {} {}", right[0], right[1]);
    ensure!(ask(&gateway, "PUT", "file", &[&together], Some(&content))?.status == 204);
    holds(&gateway, "file", &content)
}

#[test]
fn a_malformed_checksum_is_refused_before_the_body_and_not_ignored() -> Result<()> {
    let gateway = Gateway::start()?;
    put(&gateway, "file", b"the old content")?;
    let short = format!("SHA1:{}", "a".repeat(39));
    let wide = format!("SHA1:{}", "g".repeat(40));
    for bad in ["SHA1", "SHA1:", "CRC32:00000000", "SHA3-256:00", short.as_str(), wide.as_str(), "x"] {
        let answer = ask(&gateway, "PUT", "file", &[&format!("OC-Checksum: {bad}")], Some(b"new"))?;
        ensure!(answer.status == 400 && answer.text().contains("OC-Checksum"), "{bad}: {}", answer.head);
    }
    holds(&gateway, "file", b"the old content")
}

#[test]
fn checksums_are_shown_while_they_are_those_of_the_content_and_nobody_can_set_them() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let content = noise(9, 300_000);
    let (sha1, md5) = (sum("sha1sum", &content)?, sum("md5sum", &content)?);
    ask(&gateway, "PUT", "file", &[&format!("OC-Checksum: SHA1:{sha1}")], Some(&content))?;
    let shown = |path: &str| -> Result<String> {
        Ok(ask(&gateway, "PROPFIND", path, &["Depth: 0"], Some(ASKS))?.text())
    };
    let both = format!("SHA1:{sha1} MD5:{md5}<");
    ensure!(shown("file")?.contains(&both), "{}", shown("file")?);
    let copied = format!("Destination: {}", gateway.url("copy"));
    ensure!(ask(&gateway, "COPY", "file", &[&copied], None)?.status == 201);
    ensure!(shown("copy")?.contains(&both), "a copy has the bytes, so it has their digests");
    let set = b"<propertyupdate xmlns='DAV:' xmlns:o='http://owncloud.org/ns'><set><prop><o:checksums><o:checksum>SHA1:0</o:checksum></o:checksums></prop></set></propertyupdate>";
    let answer = ask(&gateway, "PROPPATCH", "file", &[], Some(set))?;
    ensure!(answer.text().contains("403 Forbidden"), "{}", answer.text());
    ensure!(shown("file")?.contains(&both));
    // As rclone sets a time: with the checksum that it was told.
    let set = format!(
        "<propertyupdate xmlns='DAV:'><set><prop><lastmodified>1500000000</lastmodified><c:checksums \
         xmlns:c='http://owncloud.org/ns'><c:checksum>SHA1:{sha1}</c:checksum></c:checksums></prop></set></propertyupdate>"
    );
    let answer = ask(&gateway, "PROPPATCH", "file", &[], Some(set.as_bytes()))?;
    ensure!(answer.status == 207 && !answer.text().contains("403"), "{}", answer.text());
    ensure!(shown("file")?.contains(&both), "a time changes no bytes");

    // Changed over the other protocol: what was kept is not its digest any more.
    let other = work.path().join("other");
    write_file(&other, b"other bytes", 1_700_000_000)?;
    gateway.sftp_batch(&format!("put {} file\n", other.display()))?;
    ensure!(!shown("file")?.contains("SHA1:") && shown("file")?.contains("404"), "{}", shown("file")?);
    // And what was not sent with one has none until somebody has it computed.
    put(&gateway, "asked", &content)?;
    let asked = ask(&gateway, "PATCH", "asked", &["X-Recalculate-Hash: sha1"], None)?;
    ensure!(
        asked.status == 204 && asked.header("OC-Checksum") == Some(&format!("SHA1:{sha1}")),
        "{}",
        asked.head
    );
    ensure!(shown("asked")?.contains(&sha1));
    ensure!(ask(&gateway, "PATCH", "asked", &["X-Recalculate-Hash: crc"], None)?.status == 400);
    ensure!(ask(&gateway, "PATCH", "none", &["X-Recalculate-Hash: sha1"], None)?.status == 404);
    put(&gateway, "plain", &content)?;
    ensure!(!shown("plain")?.contains("SHA1:"));
    let mut ssh = Command::new("ssh");
    run_ok(ssh.args(gateway.ssh_options()).arg("demo@127.0.0.1").arg("sha256sum plain"))?;
    ensure!(shown("plain")?.contains(&both.replace('<', " SHA256:")), "{}", shown("plain")?);
    Ok(())
}
