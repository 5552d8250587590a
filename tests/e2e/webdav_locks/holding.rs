//! What a lock keeps others from, how it ends, and what is told of it.

use anyhow::{Context, Result, ensure};
use coffre_tests::{Gateway, run_ok, until};

use super::dav::{User, lockinfo, with};

#[test]
fn locks_survive_a_restart_and_a_kill() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    user.send("MKCOL", "folder", &[], "")?.expect(201)?;
    user.put("folder/letter", &[], "first")?.expect(201)?;
    let (deep, flat) = (user.lock("folder", "infinity")?, user.lock("draft", "0")?);
    for kill in [true, false] {
        if kill {
            gateway.kill()?;
        } else {
            gateway.stop()?;
        }
        let mut again = Gateway::start_on(&gateway.data, &gateway.log)?;
        again.keep_directory_of(gateway);
        gateway = again;
        let user = User::demo(&gateway);
        user.put("folder/letter", &[], "over it")?.expect(423)?;
        user.put("folder/new", &[], "new")?.expect(423)?;
        user.put("draft", &[], "over it")?.expect(423)?;
        user.put("folder/letter", &[&with(&deep)], "second")?.expect(204)?;
        user.put("draft", &[&with(&flat)], "second")?.expect(204)?;
        let shown = user.send("PROPFIND", "folder/letter", &["Depth: 0"], LOCKDISCOVERY)?.expect(207)?;
        ensure!(shown.text.contains(deep.trim_matches(['<', '>'])), "{}", shown.text);
        ensure!(shown.text.contains("mailto:dr@clinic.example"), "{}", shown.text);
        ensure!(shown.text.contains("<D:lockroot><D:href>/folder/</D:href>"), "{}", shown.text);
    }
    let user = User::demo(&gateway);
    user.send("UNLOCK", "folder", &[&format!("Lock-Token: {deep}")], "")?.expect(204)?;
    user.put("folder/letter", &[], "third")?.expect(204)?;
    ensure!(user.get("draft")? == "second");
    let answer = gateway.coffre(&["check", "--read-data"])?;
    ensure!(answer.status.success(), "{}", answer.text());
    Ok(())
}

const LOCKDISCOVERY: &str = "<propfind xmlns='DAV:'><prop><lockdiscovery/></prop></propfind>";

#[test]
fn a_free_name_that_is_locked_is_an_empty_file_and_goes_with_delete() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    let reply = user.send("LOCK", "new", &[], &lockinfo("exclusive"))?.expect(201)?;
    let token = reply.token()?;
    ensure!(user.get("new")?.is_empty());
    user.send("LOCK", "nowhere/new", &[], &lockinfo("exclusive"))?.expect(409)?;
    user.send("DELETE", "new", &[], "")?.expect(423)?;
    user.send("DELETE", "new", &[&with(&token)], "")?.expect(204)?;
    // Nothing of the lock is left on the name.
    user.put("new", &[], "anybody's")?.expect(201)?;
    user.put("new", &[&with(&token)], "with a dead token")?.expect(412)?;
    ensure!(user.get("new")? == "anybody's");
    Ok(())
}

#[test]
fn a_move_or_copy_takes_no_lock_along_and_needs_those_of_both_ends() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    user.put("one", &[], "one")?.expect(201)?;
    let token = user.lock("one", "0")?;
    let there = user.destination("two");
    user.send("MOVE", "one", &[&there], "")?.expect(423)?;
    user.send("COPY", "one", &[&there], "")?.expect(201)?;
    user.put("two", &[], "the copy is not locked")?.expect(204)?;
    user.send("MOVE", "one", &[&there, &with(&token)], "")?.expect(204)?;
    user.put("two", &[], "nor is what was moved")?.expect(204)?;
    user.put("one", &[], "nor what is there now")?.expect(201)?;
    // A directory of names that are locked takes none, gives none.
    user.send("MKCOL", "kept", &[], "")?.expect(201)?;
    user.put("kept/old", &[], "old")?.expect(201)?;
    let kept = user.lock("kept", "0")?;
    let tagged = format!("If: <{}> ({kept})", gateway.url("kept"));
    for (method, path, there) in
        [("MOVE", "one", "kept/new"), ("COPY", "one", "kept/new"), ("MOVE", "kept/old", "out")]
    {
        let destination = user.destination(there);
        let refused = user.send(method, path, &[&destination], "")?.expect(423)?;
        ensure!(refused.text.contains("<D:lock-token-submitted><D:href>/kept</D:href>"), "{}", refused.text);
        user.send(method, path, &[&destination, &with(&kept)], "")?.expect(412)?;
    }
    user.send("MOVE", "one", &[&user.destination("kept/new"), &tagged], "")?.expect(201)?;
    user.send("MOVE", "kept/old", &[&user.destination("out"), &tagged], "")?.expect(201)?;
    user.put("kept/new", &[], "what is in it may be changed")?.expect(204)?;
    Ok(())
}

#[test]
fn a_directory_with_a_lock_below_is_neither_removed_nor_moved_nor_overwritten() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    for path in ["tree", "tree/inner", "other"] {
        user.send("MKCOL", path, &[], "")?.expect(201)?;
    }
    user.put("tree/inner/leaf", &[], "leaf")?.expect(201)?;
    user.put("tree/free", &[], "free")?.expect(201)?;
    let token = user.lock("tree/inner/leaf", "0")?;
    let tree = user.destination("tree");
    for (method, path, headers) in [
        ("DELETE", "tree", Vec::new()),
        ("MOVE", "tree", vec![user.destination("away")]),
        ("MOVE", "other", vec![tree.clone()]),
        ("COPY", "other", vec![tree.clone(), "Overwrite: T".to_owned()]),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let refused = user.send(method, path, &headers, "")?.expect(423)?;
        ensure!(refused.text.contains("<D:href>/tree/inner/leaf</D:href>"), "{}", refused.text);
        ensure!(user.get("tree/inner/leaf")? == "leaf" && user.get("tree/free")? == "free");
    }
    let tagged = format!("If: <{}> ({token})", gateway.url("tree/inner/leaf"));
    user.send("COPY", "other", &[&tree, &tagged], "")?.expect(204)?;
    user.send("GET", "tree/free", &[], "")?.expect(404)?;
    user.send("DELETE", "tree", &[], "")?.expect(204)?;
    Ok(())
}

#[test]
fn a_refusal_names_the_lock_in_the_way_and_never_its_token() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    user.send("MKCOL", "a%20b", &[], "")?.expect(201)?;
    user.put("a%20b/leaf", &[], "leaf")?.expect(201)?;
    let token = user.lock("a%20b/leaf", "0")?;
    let bare = token.trim_matches(['<', '>']).to_owned();
    let held = user.send("PUT", "a%20b/leaf", &[], "over it")?.expect(423)?;
    ensure!(held.text.contains("<D:lock-token-submitted><D:href>/a%20b/leaf</D:href>"), "{}", held.text);
    let beside = user.send("LOCK", "a%20b/leaf", &["Depth: 0"], &lockinfo("shared"))?.expect(423)?;
    ensure!(beside.text.contains("<D:no-conflicting-lock><D:href>/a%20b/leaf</D:href>"), "{}", beside.text);
    // Of one that would cover it, both are told of (RFC 4918 section 9.10.9).
    let above = user.send("LOCK", "a%20b", &[], &lockinfo("exclusive"))?.expect(207)?;
    ensure!(above.text.contains("423 Locked") && above.text.contains("424 Failed"), "{}", above.text);
    let wrong = user.send("UNLOCK", "a%20b", &[&format!("Lock-Token: {token}")], "")?.expect(409)?;
    ensure!(wrong.text.contains("lock-token-matches-request-uri"), "{}", wrong.text);
    // Another user sees that there is a lock, and neither its token nor its owner.
    gateway.admin(&["user", "add", "demo/eve", "--mount", "/=demo"])?;
    let secret = gateway.add_token("demo/eve", &[])?.secret;
    let eve = User::new(&gateway, "eve", &secret);
    let seen = eve.send("PROPFIND", "a%20b/leaf", &["Depth: 0"], LOCKDISCOVERY)?.expect(207)?;
    ensure!(seen.text.contains("<D:exclusive/>") && !seen.text.contains("dr@clinic"), "{}", seen.text);
    let listed = eve.send("PROPFIND", "a%20b", &["Depth: 1"], LOCKDISCOVERY)?.expect(207)?;
    ensure!(listed.text.contains("<D:exclusive/>"), "{}", listed.text);
    let stolen = eve.send("UNLOCK", "a%20b/leaf", &[&format!("Lock-Token: {token}")], "")?.expect(403)?;
    let refreshed = eve.send("LOCK", "a%20b/leaf", &[&with(&token)], "")?.expect(412)?;
    for reply in [held, beside, above, wrong, seen, listed, stolen, refreshed] {
        ensure!(!reply.text.contains(&bare), "{}", reply.text);
    }
    ensure!(user.get("a%20b/leaf")? == "leaf");
    Ok(())
}

#[test]
fn a_lock_ends_at_its_instant_unless_it_is_refreshed() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    user.put("file", &[], "old")?.expect(201)?;
    let reply = user.send("LOCK", "file", &["Timeout: Second-2"], &lockinfo("exclusive"))?.expect(200)?;
    ensure!(reply.text.contains("Second-2") || reply.text.contains("Second-1"), "{}", reply.text);
    user.put("file", &[], "over it")?.expect(423)?;
    until("the lock is over", 30, || Ok(user.put("file", &[], "mine now")?.status == 204))?;
    user.send("UNLOCK", "file", &[&format!("Lock-Token: {}", reply.token()?)], "")?.expect(409)?;
    // Who does not say how long gets some time, nobody gets one for good; a refresh gives time anew.
    let unsaid = user.send("LOCK", "unsaid", &[], &lockinfo("exclusive"))?.expect(201)?;
    ensure!(unsaid.text.contains("Second-600"), "{}", unsaid.text);
    let reply = user.send("LOCK", "file", &["Timeout: Infinite, Second-9"], &lockinfo("exclusive"))?;
    ensure!(reply.text.contains("Second-3600"), "{}", reply.text);
    let token = reply.token()?;
    let short = user.send("LOCK", "file", &["Timeout: Second-5", &with(&token)], "")?.expect(200)?;
    ensure!(short.text.contains("Second-5") && short.header("lock-token").is_none(), "{}", short.text);
    user.send("LOCK", "file", &["Timeout: Second-900", &with(&token)], "")?.expect(200)?;
    user.put("file", &[], "over it")?.expect(423)?;
    Ok(())
}

#[test]
fn the_operator_sees_what_is_locked_and_can_break_a_lock() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    let token = user.lock("letter", "0")?;
    let shown = gateway.coffre(&["vault", "locks", "demo/demo"])?.text();
    ensure!(
        shown.contains("/letter") && shown.contains("demo/demo") && shown.contains("exclusive"),
        "{shown}"
    );
    ensure!(!shown.contains(token.trim_matches(['<', '>'])), "{shown}");
    let row = gateway.coffre_json(&["vault", "locks", "demo/demo"])?;
    let number = row.get("number").context("a number")?.to_string();
    ensure!(!gateway.coffre(&["vault", "break-lock", "demo/demo", "1"])?.status.success());
    ensure!(gateway.coffre(&["vault", "break-lock", "demo/demo", &number])?.status.success());
    user.put("letter", &[&with(&token)], "as if it were locked")?.expect(412)?;
    user.put("letter", &[], "free again")?.expect(204)?;
    let audit = gateway.coffre(&["audit", "tail", "-n", "20"])?.text();
    ensure!(audit.contains("lock-break") && audit.contains("locks-read"), "{audit}");
    Ok(())
}

#[test]
fn who_may_not_write_may_not_lock() -> Result<()> {
    let gateway = Gateway::start()?;
    User::demo(&gateway).put("file", &[], "old")?.expect(201)?;
    let secret = gateway.add_token(&gateway.user, &["--rights", "read-only"])?.secret;
    let reader = User::new(&gateway, &gateway.user, &secret);
    reader.send("LOCK", "file", &[], &lockinfo("shared"))?.expect(403)?;
    reader.send("LOCK", "new", &[], &lockinfo("shared"))?.expect(403)?;
    reader.send("GET", "new", &[], "")?.expect(404)?;
    Ok(())
}

#[test]
fn ten_thousand_locks_of_one_user_are_refused_beyond_a_thousand_and_take_no_memory() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    user.send("MKCOL", "many", &[], "")?.expect(201)?;
    let flood = |range: &str| -> Result<Vec<String>> {
        let work = tempfile::tempdir()?;
        let body = work.path().join("lock.xml");
        std::fs::write(&body, lockinfo("exclusive"))?;
        let mut curl = gateway.curl();
        curl.args(["--parallel", "--parallel-max", "8", "--request", "LOCK", "-H", "Depth: 0"])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}\\n", "--data-binary"])
            .arg(format!("@{}", body.display()))
            .arg(gateway.url(&format!("many/{range}")));
        Ok(run_ok(&mut curl)?.text().lines().map(str::to_owned).collect())
    };
    let count = |answers: &[String], status: &str| answers.iter().filter(|answer| *answer == status).count();
    let first = flood("[1-1000]")?;
    ensure!(count(&first, "201") == 1000, "{} were given", count(&first, "201"));
    let before = gateway.resident_bytes()?;
    let more = flood("[1001-10000]")?;
    ensure!(count(&more, "507") == 9000, "{} of 9,000 were refused", count(&more, "507"));
    let after = gateway.resident_bytes()?;
    ensure!(after < before + (48 << 20), "from {before} to {after} bytes");
    user.send("GET", "many/5000", &[], "")?.expect(404)?;
    // What is given back makes room.
    let mine = user.send("PROPFIND", "many/1", &["Depth: 0"], LOCKDISCOVERY)?.expect(207)?;
    let token = mine.text.split("<D:locktoken><D:href>").nth(1).and_then(|rest| rest.split('<').next());
    let header = format!("Lock-Token: <{}>", token.context("a token")?);
    user.send("UNLOCK", "many/1", &[&header], "")?.expect(204)?;
    user.send("LOCK", "many/1", &[], &lockinfo("exclusive"))?.expect(200)?;
    user.send("LOCK", "many/2000", &[], &lockinfo("exclusive"))?.expect(507)?;
    Ok(())
}
