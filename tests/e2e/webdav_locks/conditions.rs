//! Conditions of a change: `If` in full, If-Match and its kin for every method, and entity tags that stay.

use anyhow::{Result, ensure};
use coffre_tests::Gateway;

use super::dav::{User, lockinfo, with};

const PATCH: &str =
    "<propertyupdate xmlns='DAV:'><set><prop><n xmlns='urn:n'>v</n></prop></set></propertyupdate>";

#[test]
fn an_if_header_means_what_rfc_4918_says() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    user.put("free", &[], "free")?.expect(201)?;
    user.put("held", &[], "held")?.expect(201)?;
    let token = user.lock("held", "0")?;
    let (free, held) = (gateway.url("free"), gateway.url("held"));
    let other = "<urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6>";
    let tag = |path: &str| user.etag(path);
    // Read again before each, since a change that succeeds makes another.
    for (path, condition, status) in [
        ("free", "([FREE])".to_owned(), 204),
        ("free", "([\"stale\"])".to_owned(), 412),
        ("free", "(Not [\"stale\"])".to_owned(), 204),
        ("free", "(Not [FREE])".to_owned(), 412),
        ("free", "([\"stale\"]) ([FREE])".to_owned(), 204),
        ("free", "([FREE] [\"stale\"])".to_owned(), 412),
        ("free", format!("({other})"), 412),
        ("free", format!("(Not {other})"), 204),
        ("free", "(<DAV:no-lock>)".to_owned(), 412),
        ("free", "(Not <DAV:no-lock>)".to_owned(), 204),
        ("free", format!("({token})"), 412),
        // Of another resource: it holds, and gives a token that this one does not need.
        ("free", format!("<{held}> ({token})"), 204),
        ("free", format!("<{held}> ({token} [HELD]) <{free}> (Not [FREE])"), 204),
        ("free", "<https://elsewhere.example/free> ([FREE])".to_owned(), 412),
        ("held", format!("({token})"), 204),
        ("held", format!("({token} [HELD])"), 204),
        ("held", format!("({token} [\"stale\"])"), 412),
        ("held", format!("<{held}> ({token})"), 204),
        ("held", format!("<{free}> ({token})"), 412),
        ("held", format!("({token}) ({other})"), 204),
        ("held", format!("({other}) (Not <DAV:no-lock> {token})"), 204),
        // True, and yet no token is given for the lock.
        ("held", "([HELD])".to_owned(), 423),
        ("held", "(Not <DAV:no-lock>)".to_owned(), 423),
        ("held", format!("(Not {token})"), 412),
        ("held", format!("({other})"), 412),
    ] {
        let condition = condition.replace("FREE", &tag("free")?).replace("HELD", &tag("held")?);
        let before = user.get(path)?;
        let reply = user.put(path, &[&format!("If: {condition}")], &format!("{before}."))?;
        ensure!(reply.status == status, "{path} {condition}: {}", reply.text);
        let expected = if status == 204 { format!("{before}.") } else { before };
        ensure!(user.get(path)? == expected, "{path} {condition}");
    }
    // What cannot be read is refused for reads too, and mixing lists with and without a resource is no `If` header.
    for malformed in ["", "(", "garbage", "()", "(<a>) <urn:b> (<c>)", "(<a>", "([\"x\")", "(Not)", "<urn:a>"]
    {
        let header = format!("If: {malformed}");
        let header = if malformed.is_empty() { "If;".to_owned() } else { header };
        user.put("free", &[&header], "lost update")?.expect(400)?;
        user.send("DELETE", "free", &[&header], "")?.expect(400)?;
    }
    Ok(())
}

#[test]
fn every_method_that_changes_heeds_its_conditions_in_their_order() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    let past = "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT";
    let future = "If-Unmodified-Since: Fri, 06 Nov 2099 08:49:37 GMT";
    let there = user.destination("there");
    for (method, headers, body) in [
        ("PUT", &[][..], "new"),
        ("PROPPATCH", &[], PATCH),
        ("LOCK", &["Timeout: Second-60"], &lockinfo("shared")),
        ("COPY", &[&there], ""),
        ("MOVE", &[&there], ""),
        ("DELETE", &[], ""),
    ] {
        user.put("file", &[], "old")?;
        user.send("DELETE", "there", &[], "")?;
        let tag = user.etag("file")?;
        let refused = |conditions: &[&str], status: u16| -> Result<()> {
            let all: Vec<&str> = headers.iter().chain(conditions).copied().collect();
            let reply = user.send(method, "file", &all, body)?;
            ensure!(reply.status == status, "{method} {conditions:?}: {}", reply.text);
            ensure!(user.get("file")? == "old", "{method} {conditions:?}");
            ensure!(user.send("GET", "there", &[], "")?.status == 404, "{method} {conditions:?}");
            Ok(())
        };
        refused(&["If-Match: \"stale\""], 412)?;
        refused(&[&format!("If-Match: W/{tag}")], 412)?;
        refused(&["If-Match: \"stale\"", future], 412)?;
        refused(&["If-Match: garbage"], 400)?;
        refused(&["If-Match: \""], 400)?;
        refused(&[past], 412)?;
        refused(&["If-None-Match: *"], 412)?;
        refused(&[&format!("If-None-Match: \"x\", W/{tag}")], 412)?;
        refused(&[&format!("If-Match: {tag}"), &format!("If-None-Match: {tag}")], 412)?;
        // If-Match decides before the date does; what is no date, and Joplin's unquoted tag, say nothing.
        let matching = format!("If-Match: \"x\", {tag}");
        let all: Vec<&str> = headers
            .iter()
            .copied()
            .chain([matching.as_str(), past, "If-None-Match: unquoted", "If-Modified-Since: never"])
            .collect();
        let reply = user.send(method, "file", &all, body)?;
        ensure!((200..300).contains(&reply.status), "{method}: {}", reply.text);
        if method == "LOCK" {
            let given = format!("Lock-Token: {}", reply.token()?);
            user.send("UNLOCK", "file", &[&given], "")?.expect(204)?;
        }
    }
    // Of what is not there no tag matches, and a star says that nothing may be.
    for condition in ["If-Match: *", "If-Match: \"x\""] {
        user.put("absent", &[condition], "x")?.expect(412)?;
        user.send("MKCOL", "folder", &[condition], "")?.expect(412)?;
        user.send("LOCK", "absent", &[condition], &lockinfo("shared"))?.expect(412)?;
    }
    user.send("GET", "absent", &[], "")?.expect(404)?;
    user.put("absent", &["If-None-Match: *", past], "x")?.expect(201)?;
    user.send("MKCOL", "folder", &["If-None-Match: *"], "")?.expect(201)?;
    user.put("absent", &["If-Match: *", future], "y")?.expect(204)?;
    Ok(())
}

#[test]
fn an_entity_tag_is_strong_the_same_everywhere_and_stays_over_restarts() -> Result<()> {
    let mut gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    let put = user.put("file", &[], "old")?.expect(201)?;
    let tag = user.etag("file")?;
    ensure!(put.header("etag") == Some(&tag) && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let property = "<propfind xmlns='DAV:'><prop><getetag/></prop></propfind>";
    let listed = user.send("PROPFIND", "file", &["Depth: 0"], property)?;
    ensure!(listed.text.replace("&quot;", "\"").contains(&format!("<D:getetag>{tag}")), "{}", listed.text);
    // What does not change the content keeps the tag, also under another name.
    user.send("PROPPATCH", "file", &[], PATCH)?.expect(207)?;
    user.send("MOVE", "file", &[&user.destination("moved")], "")?.expect(201)?;
    ensure!(user.etag("moved")? == tag);
    for _ in 0..2 {
        gateway.kill()?;
        let mut again = Gateway::start_on(&gateway.data, &gateway.log)?;
        again.keep_directory_of(gateway);
        gateway = again;
        ensure!(User::demo(&gateway).etag("moved")? == tag);
    }
    let user = User::demo(&gateway);
    user.put("moved", &[&format!("If-Match: {tag}")], "new")?.expect(204)?;
    ensure!(user.etag("moved")? != tag);
    user.put("moved", &[&format!("If-Match: {tag}")], "lost update")?.expect(412)?;
    // The same bytes once more are another state all the same.
    let second = user.etag("moved")?;
    user.put("moved", &[], "new")?.expect(204)?;
    user.put("moved", &[&format!("If-Match: {second}")], "lost update")?.expect(412)?;
    Ok(())
}

#[test]
fn a_token_is_needed_once_for_each_lock_that_a_change_touches() -> Result<()> {
    let gateway = Gateway::start()?;
    let user = User::demo(&gateway);
    user.put("from", &[], "from")?.expect(201)?;
    user.put("to", &[], "to")?.expect(201)?;
    let (from, to) = (user.lock("from", "0")?, user.lock("to", "0")?);
    let there = user.destination("to");
    user.send("MOVE", "from", &[&there, &with(&from)], "")?.expect(423)?;
    let both = format!("If: ({from}) <{}> ({to})", gateway.url("to"));
    user.send("MOVE", "from", &[&there, &both], "")?.expect(400)?;
    let both = format!("If: <{}> ({from}) <{}> ({to})", gateway.url("from"), gateway.url("to"));
    user.send("MOVE", "from", &[&there, &both], "")?.expect(204)?;
    ensure!(user.get("to")? == "from");
    Ok(())
}
