//! Uploads in parts, with the requests that rclone (from 1.63 on, vendor nextcloud) and Nextcloud's desktop client send.

use anyhow::{Result, ensure};
use coffre_tests::files::noise;
use coffre_tests::{Gateway, RawHttp, RawSftp, run_ok};

use super::{Answered, ask, ask_as, get, holds, put, records, sum};

const FILES: &str = "remote.php/dav/files/demo";
const UPLOADS: &str = "remote.php/dav/uploads/demo";

fn destination(gateway: &Gateway, path: &str) -> String {
    format!("Destination: {}", gateway.url(&format!("{FILES}/{path}")))
}

fn part(gateway: &Gateway, id: &str, name: &str, content: &[u8]) -> Result<Answered> {
    ask(gateway, "PUT", &format!("{UPLOADS}/{id}/{name}"), &[], Some(content))
}

/// Begins an upload and puts parts of it as rclone does: named by their first and last byte.
fn begun(gateway: &Gateway, id: &str, content: &[u8], part_bytes: usize) -> Result<()> {
    let made = ask(gateway, "MKCOL", &format!("{UPLOADS}/{id}/"), &[], None)?;
    ensure!(made.status == 201, "{}", made.head);
    for (number, piece) in content.chunks(part_bytes).enumerate() {
        let first = number * part_bytes;
        let put = part(gateway, id, &format!("{first:015}-{:015}", first + piece.len() - 1), piece)?;
        ensure!(put.status == 201, "{}", put.head);
    }
    Ok(())
}

fn moved(gateway: &Gateway, id: &str, to: &str, headers: &[&str]) -> Result<Answered> {
    let to = destination(gateway, to);
    ask(gateway, "MOVE", &format!("{UPLOADS}/{id}/.file"), &[&[to.as_str()], headers].concat(), None)
}

fn is_clean(gateway: &Gateway) -> Result<()> {
    let checked = gateway.coffre(&["check", "--read-data"])?;
    ensure!(checked.status.success(), "{}{}", checked.text(), checked.stderr);
    Ok(())
}

#[test]
fn parts_sent_as_rclone_sends_them_become_one_file_with_its_time_and_checksum() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(1, 25_000_000);
    let id = "rclone-chunked-upload-0123456789abcdef";
    // What an earlier try left would be purged first.
    ensure!(ask(&gateway, "DELETE", &format!("{UPLOADS}/{id}/"), &[], None)?.status == 404);
    begun(&gateway, id, &content, 10_000_000)?;
    let checksum = format!("OC-Checksum: SHA1:{}", sum("sha1sum", &content)?);
    ensure!(ask(&gateway, "MKCOL", &format!("{FILES}/deep"), &[], None)?.status == 201);
    let answer = moved(&gateway, id, "deep/whole.bin", &[&checksum, "X-OC-Mtime: 1500000000"])?;
    ensure!(answer.status == 201 && answer.header("X-OC-Mtime") == Some("accepted"), "{}", answer.head);
    ensure!(answer.header("OC-ETag").is_some() && answer.header("OC-FileId").is_some(), "{}", answer.head);
    holds(&gateway, "deep/whole.bin", &content)?;
    let head = ask(&gateway, "HEAD", "deep/whole.bin", &[], None)?;
    ensure!(head.header("Last-Modified") == Some("Fri, 14 Jul 2017 02:40:00 GMT"), "{}", head.head);
    let asks =
        b"<propfind xmlns='DAV:' xmlns:o='http://owncloud.org/ns'><prop><o:checksums/></prop></propfind>";
    let shown =
        ask(&gateway, "PROPFIND", &format!("{FILES}/deep/whole.bin"), &["Depth: 0"], Some(asks))?.text();
    ensure!(shown.contains(&format!("SHA1:{}", sum("sha1sum", &content)?)), "{shown}");
    ensure!(shown.contains(&format!("/{FILES}/deep/whole.bin")), "under the address that was asked: {shown}");
    ensure!(
        ask(&gateway, "PROPFIND", &format!("{UPLOADS}/{id}"), &["Depth: 1"], None)?.status == 404,
        "spent"
    );
    // One record of each access, with the path of the namespace.
    let all = records(&gateway)?;
    let count = |action: &str| all.iter().filter(|record| record["action"] == action).count();
    ensure!((count("parts-begin"), count("part-write"), count("file-write")) == (1, 3, 1), "{all:#?}");
    let whole = all.iter().find(|record| record["action"] == "file-write");
    ensure!(
        whole.is_some_and(
            |whole| whole["details"]["path"] == "/deep/whole.bin" && whole["bytes"] == 25_000_000
        )
    );
    is_clean(&gateway)
}

#[test]
fn an_upload_resumes_after_a_kill_as_the_desktop_client_does() -> Result<()> {
    let mut gateway = Gateway::start()?;
    // An upload is its credential's, and a quickstart makes a new one each time.
    gateway.token = gateway.add_token("demo/demo", &[])?.secret;
    let content = noise(2, 3_500_000);
    let target = destination(&gateway, "film.mkv");
    let total = format!("OC-Total-Length: {}", content.len());
    let upload = format!("{UPLOADS}/3141592653");
    ensure!(ask(&gateway, "MKCOL", &upload, &[&total, &target], None)?.status == 201);
    ensure!(ask(&gateway, "MKCOL", &upload, &[&total, &target], None)?.status == 405);
    let pieces: Vec<&[u8]> = content.chunks(1_000_000).collect();
    // In any order, and one of them twice.
    for number in [3, 1, 1] {
        let headers = [total.as_str(), target.as_str(), "OC-Chunk-Offset: 0"];
        let answer =
            ask(&gateway, "PUT", &format!("{upload}/{number:05}"), &headers, Some(pieces[number - 1]))?;
        ensure!(matches!(answer.status, 201 | 204), "{}", answer.head);
    }
    // Cut off in the middle of a part.
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request(&format!("PUT /{upload}/00002"), "Content-Length: 1000000\r\n")?;
    raw.send(&pieces[1][..400_000])?;
    gateway.kill()?;
    let mut again = Gateway::start_on(&gateway.data, &gateway.log)?;
    again.token.clone_from(&gateway.token);
    again.keep_directory_of(gateway);
    let gateway = again;
    let listed = ask(&gateway, "PROPFIND", &upload, &["Depth: 1"], None)?;
    ensure!(listed.status == 207, "{}", listed.head);
    let text = listed.text();
    ensure!(text.matches("<D:getcontentlength>1000000<").count() == 2, "{text}");
    ensure!(text.contains("/00001<") && text.contains("/00003<") && !text.contains("/00002<"), "{text}");
    let target = destination(&gateway, "film.mkv");
    ensure!(moved(&gateway, "3141592653", "film.mkv", &[&total])?.status == 400, "not all are there");
    for number in [2, 4] {
        ensure!(part(&gateway, "3141592653", &format!("{number:05}"), pieces[number - 1])?.status == 201);
    }
    let answer = ask(&gateway, "MOVE", &format!("{upload}/.file"), &[&target, &total], None)?;
    ensure!(answer.status == 201, "{}", answer.head);
    holds(&gateway, "film.mkv", &content)?;
    is_clean(&gateway)
}

#[test]
fn parts_of_any_size_make_the_same_bytes_across_the_borders_of_segments() -> Result<()> {
    let gateway = Gateway::start()?;
    // Across the borders of segments, where extents are cut.
    let content = noise(3, 70 << 20);
    for (id, part_bytes) in [("1", 33_333_333), ("2", 5 << 20)] {
        begun(&gateway, id, &content, part_bytes)?;
        let answer = moved(&gateway, id, &format!("whole-{id}"), &[])?;
        ensure!(answer.status == 201, "{}", answer.head);
        holds(&gateway, &format!("whole-{id}"), &content)?;
    }
    // Changed like any other file afterwards.
    ensure!(
        ask(&gateway, "PUT", "whole-1", &["Content-Range: bytes 67108860-67108867/*"], Some(b"straddle"))?
            .status
            == 204
    );
    let mut changed = content;
    changed[67_108_860..67_108_868].copy_from_slice(b"straddle");
    holds(&gateway, "whole-1", &changed)?;
    is_clean(&gateway)
}

#[test]
fn an_assembly_heeds_what_a_put_heeds_and_a_refused_one_keeps_the_parts() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(4, 2_000_000);
    put(&gateway, "file", b"the old content")?;
    ensure!(gateway.curl_status(&["-X", "MKCOL", &gateway.url("dir")])? == 201);
    begun(&gateway, "x", &content, 900_000)?;
    let lock =
        b"<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>";
    let locked = ask(&gateway, "LOCK", "file", &["Depth: 0"], Some(lock))?;
    let token = locked.header("Lock-Token").unwrap_or_default().to_owned();
    ensure!(moved(&gateway, "x", "file", &[])?.status == 423);
    ensure!(ask(&gateway, "UNLOCK", "file", &[&format!("Lock-Token: {token}")], None)?.status == 204);
    let url = gateway.url(&format!("{FILES}/file"));
    let wrong = format!("OC-Checksum: MD5:{}", "0".repeat(32));
    let other = format!("If: <{url}> ([\"other\"])");
    for (to, header, status) in [
        ("file", "Overwrite: F", 412),
        ("file", other.as_str(), 412),
        ("file", wrong.as_str(), 400),
        ("file", "OC-Total-Length: 3", 400),
        ("file", "OC-Total-Length: x", 400),
        ("file", "OC-Checksum: x", 400),
        ("dir", "X-Nothing: 1", 405),
        ("none/file", "X-Nothing: 1", 409),
    ] {
        let answer = moved(&gateway, "x", to, &[header])?;
        ensure!(answer.status == status, "{to} {header}: {} {}", answer.head, answer.text());
        holds(&gateway, "file", b"the old content")?;
    }
    let elsewhere = ["Destination: https://elsewhere.example/file"];
    ensure!(ask(&gateway, "MOVE", &format!("{UPLOADS}/x/.file"), &elsewhere, None)?.status == 502);
    let past = format!("Destination: {}", gateway.url(".snapshots/x"));
    ensure!(ask(&gateway, "MOVE", &format!("{UPLOADS}/x/.file"), &[&past], None)?.status == 403);
    let tag = ask(&gateway, "HEAD", "file", &[], None)?.header("ETag").unwrap_or_default().to_owned();
    let answer =
        moved(&gateway, "x", "file", &[&format!("If: <{url}> ([{tag}])"), "OC-Total-Length: 2000000"])?;
    ensure!(answer.status == 204, "{}", answer.head);
    holds(&gateway, "file", &content)
}

#[test]
fn parts_are_in_no_listing_and_collide_with_no_name_of_the_vault() -> Result<()> {
    let gateway = Gateway::start()?;
    for directory in ["uploads", "uploads/demo", "remote.php"] {
        ensure!(gateway.curl_status(&["-X", "MKCOL", &gateway.url(directory)])? == 201, "{directory}");
    }
    put(&gateway, "uploads/demo/real", b"a real file")?;
    begun(&gateway, "x", b"some bytes", 4)?;
    let all = run_ok(gateway.rclone_sftp().args(["lsf", "-R", "coffre:"]))?.text();
    ensure!(all == "remote.php/\nuploads/\nuploads/demo/\nuploads/demo/real\n", "{all}");
    holds(&gateway, "uploads/demo/real", b"a real file")?;
    ensure!(ask(&gateway, "GET", "uploads/demo/x/000000000000000-000000000000003", &[], None)?.status == 404);
    let mut raw = RawSftp::start(&gateway)?;
    ensure!(raw.open(b"/remote.php/dav/uploads/demo/x/000000000000000-000000000000003", 1).is_err());
    for (method, path, status) in [
        ("GET", format!("{UPLOADS}/x/000000000000000-000000000000003"), 405),
        ("PUT", format!("{UPLOADS}/x/name"), 400),
        ("PUT", format!("{UPLOADS}/x/1/2"), 404),
        ("PUT", format!("{UPLOADS}/unknown/1"), 404),
        ("LOCK", format!("{UPLOADS}/x"), 405),
        ("MKCOL", format!("{UPLOADS}/{}", "n".repeat(129)), 400),
        // Another user's name leads into the vault, where there is nothing.
        ("MKCOL", "remote.php/dav/uploads/root/x".to_owned(), 409),
    ] {
        let body = (method == "PUT").then_some(&b"x"[..]);
        let answer = ask(&gateway, method, &path, &[], body)?;
        ensure!(answer.status == status, "{method} {path}: {}", answer.head);
    }
    gateway.admin(&["vault", "snapshot", "demo/demo", "then"])?;
    let then = ask(&gateway, "PROPFIND", ".snapshots/then/", &["Depth: 1"], None)?.text();
    ensure!(!then.contains("000000"), "{then}");
    is_clean(&gateway)
}

#[test]
fn an_upload_is_its_credentials_own_counts_against_quota_and_gives_it_back() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.admin(&["vault", "set", "demo/demo", "--bytes-max", "1000000"])?;
    let content = noise(5, 900_000);
    begun(&gateway, "x", &content, 300_000)?;
    let other = gateway.add_token("demo/demo", &[])?.secret;
    let as_other = |method: &str, path: &str| -> Result<u16> {
        let curl = gateway.curl_as("demo", &other);
        Ok(ask_as(curl, (method, &gateway.url(path)), &[&destination(&gateway, "stolen")], None)?.status)
    };
    ensure!(as_other("PROPFIND", &format!("{UPLOADS}/x"))? == 404);
    ensure!(as_other("MOVE", &format!("{UPLOADS}/x/.file"))? == 404);
    ensure!(as_other("DELETE", &format!("{UPLOADS}/x"))? == 404);
    // No room for what would pass the limit: neither a part nor another file, before a byte of it.
    let mut raw = RawHttp::connect(&gateway)?;
    raw.request(&format!("PUT /{UPLOADS}/x/9"), "Content-Length: 200000\r\nExpect: 100-continue\r\n")?;
    ensure!(raw.status()? == Some(507));
    ensure!(ask(&gateway, "PUT", "file", &[], Some(&content[..200_000]))?.status == 507);
    // The whole needs no more than its parts did.
    let answer = moved(&gateway, "x", "whole", &[])?;
    ensure!(answer.status == 201, "{} {}", answer.head, answer.text());
    holds(&gateway, "whole", &content)?;
    ensure!(ask(&gateway, "DELETE", "whole", &[], None)?.status == 204);
    begun(&gateway, "y", &content, 300_000)?;
    ensure!(
        ask(&gateway, "DELETE", &format!("{UPLOADS}/y/000000000300000-000000000599999"), &[], None)?.status
            == 204
    );
    ensure!(ask(&gateway, "DELETE", &format!("{UPLOADS}/y"), &[], None)?.status == 204);
    put(&gateway, "file", &content)?;
    ensure!(get(&gateway, "file")? == content);
    is_clean(&gateway)
}

#[test]
fn an_upload_that_is_to_lie_in_another_vault_comes_there() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.admin(&["vault", "add", "demo/second"])?;
    gateway.admin(&["user", "add", "demo/two", "--mount", "/=demo", "--mount", "/second=second"])?;
    let token = gateway.add_token("demo/two", &[])?.secret;
    let content = noise(6, 1_200_000);
    let uploads = "remote.php/dav/uploads/two/x";
    let asked = |method: &str, path: &str, headers: &[&str], body: Option<&[u8]>| {
        ask_as(gateway.curl_as("two", &token), (method, &gateway.url(path)), headers, body)
    };
    let target = format!("Destination: {}", gateway.url("remote.php/dav/files/two/second/whole"));
    for told in [false, true] {
        let headers: &[&str] = if told { &[&target] } else { &[] };
        ensure!(asked("MKCOL", uploads, headers, None)?.status == 201);
        ensure!(asked("PUT", &format!("{uploads}/1"), &[], Some(&content[..700_000]))?.status == 201);
        ensure!(asked("PUT", &format!("{uploads}/2"), &[], Some(&content[700_000..]))?.status == 201);
        let checksum = format!("OC-Checksum: MD5:{}", sum("md5sum", &content)?);
        let answer = asked("MOVE", &format!("{uploads}/.file"), &[&target, &checksum], None)?;
        ensure!(answer.status == if told { 204 } else { 201 }, "{} {}", answer.head, answer.text());
        ensure!(asked("GET", "second/whole", &[], None)?.body == content);
        ensure!(asked("PROPFIND", uploads, &[], None)?.status == 404, "spent");
    }
    is_clean(&gateway)
}

#[test]
fn parts_that_leave_a_gap_are_not_taken_for_a_file() -> Result<()> {
    let gateway = Gateway::start()?;
    let content = noise(5, 90_000);
    begun(&gateway, "x", &content, 30_000)?;
    let middle = format!("{UPLOADS}/x/000000000030000-000000000059999");
    ensure!(ask(&gateway, "DELETE", &middle, &[], None)?.status == 204);
    let refused = moved(&gateway, "x", "file", &[])?;
    ensure!(
        refused.status == 400 && refused.text().contains("missing"),
        "{} {}",
        refused.head,
        refused.text()
    );
    ensure!(ask(&gateway, "GET", "file", &[], None)?.status == 404);
    // It goes on where it was.
    part(&gateway, "x", "000000000030000-000000000059999", &content[30_000..60_000])?;
    ensure!(moved(&gateway, "x", "file", &[])?.status == 201);
    ensure!(ask(&gateway, "GET", "file", &[], None)?.body == content, "the bytes");
    Ok(())
}
