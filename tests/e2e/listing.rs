//! Listings as OpenSSH's server prints them, and the names of owners.

use anyhow::{Context, Result, ensure};
use coffre_tests::Gateway;
use coffre_tests::files::write_file;
use coffre_tests::raw_sftp::{Answer, RawSftp, kind, string};

/// The long names of a listing's answer (draft section 7).
fn long_names(answer: &Answer) -> Result<Vec<String>> {
    const ATTRIBUTES_BYTES: usize = 32;
    let mut rest = answer.body.get(8..).context("a count")?;
    let mut lines = Vec::new();
    while !rest.is_empty() {
        for is_long in [false, true] {
            let (len, after) = rest.split_first_chunk::<4>().context("a length")?;
            let (text, after) = after.split_at(u32::from_be_bytes(*len) as usize);
            if is_long {
                lines.push(String::from_utf8_lossy(text).into_owned());
            }
            rest = after;
        }
        rest = rest.get(ATTRIBUTES_BYTES..).context("attributes")?;
    }
    Ok(lines)
}

#[test]
fn a_long_name_shows_user_and_customer_and_the_year_of_what_is_old() -> Result<()> {
    let gateway = Gateway::start()?;
    let work = tempfile::tempdir()?;
    let (old, new) = (work.path().join("old"), work.path().join("new"));
    write_file(&old, b"twenty bytes of text", 1_500_000_000)?;
    // Made now, which is its time.
    std::fs::write(&new, b"text")?;
    gateway.sftp_batch(&format!(
        "mkdir l\nput -p {} l/old\nput -p {} l/new\nchmod 640 l/old\n",
        old.display(),
        new.display()
    ))?;
    let mut raw = RawSftp::start(&gateway)?;
    let handle = string(&raw.ask(kind::OPENDIR, &[&string(b"/l")])?.string());
    let lines = long_names(&raw.ask(kind::READDIR, &[&handle])?)?;
    let user = &gateway.user;
    let line = |name: &str| {
        lines.iter().find(|line| line.ends_with(&format!(" {name}"))).with_context(|| format!("{lines:?}"))
    };
    let want = format!("-rw-r-----    1 {user:<8} {:<8}       20 Jul 14  2017 old", "demo");
    ensure!(*line("old")? == want, "{lines:?}");
    let hour = line("new")?.split_whitespace().nth(7).context("a time")?;
    ensure!(hour.len() == 5 && hour.contains(':'), "a file of this hour shows its hour: {lines:?}");
    // The same from the client's side, which asks for the names of the numbers that it saw.
    let shown = gateway.sftp_batch("ls -l l\n")?.text();
    ensure!(shown.lines().any(|line| line.contains(&format!(" {user} "))), "{shown}");
    Ok(())
}

#[test]
fn names_of_owners_are_told_by_number_and_unknown_ones_are_empty() -> Result<()> {
    let gateway = Gateway::start()?;
    let mut raw = RawSftp::start(&gateway)?;
    let numbers = |list: &[u32]| string(&list.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<u8>>());
    let name = string(b"users-groups-by-id@openssh.com");
    let answer = raw.ask(kind::EXTENDED, &[&name, &numbers(&[0, 1000]), &numbers(&[7])])?;
    let users = [string(gateway.user.as_bytes()), string(b"")].concat();
    let want = [string(&users), string(&string(b""))].concat();
    ensure!(answer.body.get(4..) == Some(&want[..]), "{answer:?}");
    // More than a directory has owners, and a list that ends in the middle of a number.
    for bad in [numbers(&vec![1; 25_000]), string(b"12345")] {
        let refused = raw.ask(kind::EXTENDED, &[&name, &bad, &numbers(&[])])?;
        ensure!(refused.status().is_some_and(|code| code > 1), "{refused:?}");
    }
    Ok(())
}

#[test]
fn the_parent_of_the_root_is_the_root_and_homes_are_ones_own() -> Result<()> {
    let gateway = Gateway::start()?;
    gateway.sftp_batch("mkdir a\ncd a/../..\nls a\ncd ..\nls /a\n")?;
    let mut raw = RawSftp::start(&gateway)?;
    let mut home =
        |user: &str| raw.ask(kind::EXTENDED, &[&string(b"home-directory"), &string(user.as_bytes())]);
    ensure!(home(&gateway.user)?.kind == kind::NAME && home("")?.kind == kind::NAME);
    ensure!(home("somebody-else")?.status() == Some(2));
    Ok(())
}
