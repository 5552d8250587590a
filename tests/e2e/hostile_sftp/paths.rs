//! Paths that climb, and changes that the credential does not allow.

use anyhow::{Result, ensure};
use coffre_tests::raw_sftp::{RawSftp, kind, string};
use coffre_tests::run;

use super::{READ, assert_victim, with_victim};

#[test]
fn no_spelling_of_a_path_leaves_the_namespace() -> Result<()> {
    let gateway = with_victim()?;
    let mut raw = RawSftp::start(&gateway)?;
    let host = gateway.data.display().to_string();
    for path in [
        "../../../../etc/passwd",
        "/../../etc/passwd",
        "/etc/passwd",
        "//etc//passwd",
        "/./../etc/passwd",
        "/victim/../../etc/passwd",
        "/etc/passwd\0.txt",
        "victim\0",
        host.as_str(),
    ] {
        let answer =
            raw.ask(kind::OPEN, &[&string(path.as_bytes()), &READ.to_be_bytes(), &0_u32.to_be_bytes()])?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{path:?}: {answer:?}");
        let answer =
            raw.ask(kind::MKDIR, &[&string(format!("{path}/x").as_bytes()), &0_u32.to_be_bytes()])?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{path:?}: {answer:?}");
    }
    // A link is data: it leads inside the namespace or nowhere.
    for (name, target) in
        [("l1", "/etc/passwd"), ("l2", "../../../../etc/passwd"), ("l3", "/proc/self/environ")]
    {
        // OpenSSH's order: target first.
        let made = raw.ask(kind::SYMLINK, &[&string(target.as_bytes()), &string(name.as_bytes())])?;
        ensure!(made.status() == Some(0), "{name}: {made:?}");
        let answer =
            raw.ask(kind::OPEN, &[&string(name.as_bytes()), &READ.to_be_bytes(), &0_u32.to_be_bytes()])?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{name}: {answer:?}");
    }
    for (name, target) in [("circle-a", "circle-b"), ("circle-b", "circle-a"), ("self", "self/x")] {
        raw.ask(kind::SYMLINK, &[&string(target.as_bytes()), &string(name.as_bytes())])?;
    }
    for name in ["circle-a", "self"] {
        ensure!(
            raw.ask(kind::STAT, &[&string(name.as_bytes())])?.status().is_some_and(|code| code != 0),
            "{name}"
        );
    }
    assert_victim(&gateway)
}

#[test]
fn every_operation_of_a_read_only_credential_that_would_change_something_is_refused() -> Result<()> {
    let gateway = with_victim()?;
    let work = tempfile::tempdir()?;
    let key = gateway.add_key(&gateway.user, work.path(), "reader", &["--rights", "read-only"])?;
    let mut raw = RawSftp::start_with(&gateway.ssh_options_with(&key.secret), &gateway.user)?;
    let victim = string(b"/victim");
    let other = string(b"/other");
    let permissions = [&4_u32.to_be_bytes()[..], &0o600_u32.to_be_bytes()].concat();
    let size = [&1_u32.to_be_bytes()[..], &0_u64.to_be_bytes()].concat();
    let none = 0_u32.to_be_bytes();
    let handle = string(&raw.open(b"/victim", READ)?);
    let copied = [&handle[..], &[0; 16], &handle, &[0; 8]].concat();
    let attempts: [(&str, u8, Vec<&[u8]>); 15] = [
        ("open to write", kind::OPEN, vec![&victim, &[0, 0, 0, 2], &none]),
        ("open to append", kind::OPEN, vec![&victim, &[0, 0, 0, 6], &none]),
        ("open to create", kind::OPEN, vec![&other, &[0, 0, 0, 0x0a], &none]),
        ("open to truncate", kind::OPEN, vec![&victim, &[0, 0, 0, 0x12], &none]),
        ("write", kind::WRITE, vec![&handle, &[0; 8], &[0, 0, 0, 1], b"x"]),
        ("setstat", kind::SETSTAT, vec![&victim, &permissions]),
        ("truncate", kind::SETSTAT, vec![&victim, &size]),
        ("fsetstat", kind::FSETSTAT, vec![&handle, &size]),
        ("remove", kind::REMOVE, vec![&victim]),
        ("mkdir", kind::MKDIR, vec![&other, &none]),
        ("rename", kind::RENAME, vec![&victim, &other]),
        ("symlink", kind::SYMLINK, vec![&victim, &other]),
        ("posix-rename", kind::EXTENDED, vec![b"\0\0\0\x18posix-rename@openssh.com", &victim, &other]),
        ("hardlink", kind::EXTENDED, vec![b"\0\0\0\x14hardlink@openssh.com", &victim, &other]),
        ("copy-data", kind::EXTENDED, vec![b"\0\0\0\x09copy-data", &copied]),
    ];
    for (what, kind, rest) in attempts {
        let answer = raw.ask(kind, &rest)?;
        ensure!(answer.status().is_some_and(|code| code != 0), "{what}: {answer:?}");
    }
    ensure!(!run(&mut gateway.sftp_command(), b"ls other\n")?.status.success(), "something was made");
    assert_victim(&gateway)
}
