//! Many at once: of those who rest on one state, one succeeds; nothing slips past a lock.

use std::thread;

use anyhow::{Context, Result, ensure};
use coffre_tests::Gateway;

use super::dav::{Reply, User, lockinfo, with};

const AT_ONCE: usize = 8;
const ROUNDS: usize = 12;

/// Runs something many times at once; the statuses.
fn at_once(work: impl Fn(usize) -> Result<Reply> + Sync) -> Result<Vec<u16>> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                scope.spawn({
                    let work = &work;
                    move || work(number)
                })
            })
            .collect();
        let ended =
            running.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a panic"))?);
        ended.map(|reply| Ok(reply?.status)).collect()
    })
}

fn only_one(statuses: &[u16], success: u16, other: u16) -> Result<()> {
    let (won, lost) = (
        statuses.iter().filter(|status| **status == success).count(),
        statuses.iter().filter(|status| **status == other).count(),
    );
    ensure!(won == 1 && lost == AT_ONCE - 1, "{statuses:?}");
    Ok(())
}

/// Numbers of all live locks.
fn lock_numbers(gateway: &Gateway) -> Result<Vec<String>> {
    let shown = gateway.coffre(&["--json", "vault", "locks", "demo/demo"])?.text();
    let rows = shown.lines().map(serde_json::from_str::<serde_json::Value>);
    rows.map(|row| Ok(row?.get("number").context("a number")?.to_string())).collect()
}

#[test]
fn of_conditional_changes_that_race_one_succeeds() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    for round in 0..ROUNDS {
        let path = format!("file{round}");
        let made = at_once(|number| user.put(&path, &["If-None-Match: *"], &format!("first {number}")))?;
        only_one(&made, 201, 412)?;
        let tag = user.etag(&path)?;
        let condition = format!("If-Match: {tag}");
        only_one(&at_once(|number| user.put(&path, &[&condition], &format!("second {number}")))?, 204, 412)?;
        let condition = format!("If: ([{}])", user.etag(&path)?);
        only_one(&at_once(|number| user.put(&path, &[&condition], &format!("third {number}")))?, 204, 412)?;
        // A removal rests on the state as well: whoever changes it first wins.
        let condition = format!("If-Match: {}", user.etag(&path)?);
        let mixed = at_once(|number| match number % 2 {
            0 => user.put(&path, &[&condition], "fourth"),
            _ => user.send("DELETE", &path, &[&condition], ""),
        })?;
        let won = mixed.iter().filter(|status| **status == 204).count();
        ensure!(won == 1 && mixed.iter().all(|status| matches!(status, 204 | 412 | 404)), "{mixed:?}");
    }
    Ok(())
}

#[test]
fn of_exclusive_locks_that_race_one_is_given() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    user.send("MKCOL", "folder", &[], "")?.expect(201)?;
    for round in 0..ROUNDS {
        // Also where the name is free, and where one would cover the other.
        let path = format!("folder/file{round}");
        let taken = at_once(|number| match number % 2 {
            0 => user.send("LOCK", &path, &[], &lockinfo("exclusive")),
            _ => user.send("LOCK", "folder", &[], &lockinfo("exclusive")),
        })?;
        let given = taken.iter().filter(|status| matches!(status, 200 | 201)).count();
        ensure!(
            given == 1 && taken.iter().all(|status| matches!(status, 200 | 201 | 207 | 409 | 423)),
            "{taken:?}"
        );
        for number in lock_numbers(&gateway)? {
            gateway.admin(&["vault", "break-lock", "demo/demo", &number])?;
        }
    }
    Ok(())
}

#[test]
fn no_change_slips_past_a_lock_that_is_taken_meanwhile() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    for round in 0..ROUNDS {
        let path = format!("file{round}");
        user.put(&path, &[], "old")?.expect(201)?;
        // The content as it is when the lock was given is the content until its holder changes it.
        let seen = thread::scope(|scope| -> Result<(String, String)> {
            let writers: Vec<_> = (0..AT_ONCE)
                .map(|number| {
                    let path = &path;
                    scope.spawn(move || user.put(path, &[], &format!("by {number}")))
                })
                .collect();
            let token = user.lock(&path, "0")?;
            let seen = user.get(&path)?;
            for writer in writers {
                let reply = writer.join().map_err(|_| anyhow::anyhow!("a panic"))??;
                ensure!(matches!(reply.status, 204 | 423), "{}", reply.text);
            }
            Ok((token, seen))
        })?;
        ensure!(user.get(&path)? == seen.1, "round {round}: it changed under the lock");
        user.put(&path, &[&with(&seen.0)], "the holder's")?.expect(204)?;
    }
    Ok(())
}
