//! Whether a change may be made: the request's conditions (`If`, RFC 4918 section 10.4; If-Match and its kin in the order of
//! RFC 9110 section 13.2.2), then locks.
//!
//! What is found here is an early answer. What it rested on is handed to the store, which looks again in the transaction
//! of the change: a lock that was taken, or a file that changed, in between refuses it there.

use std::collections::HashMap;

use http::{StatusCode, header};

use super::headers::{self, IfList, StateToken};
use super::locks::token_of;
use super::request::{Request, etag};
use super::status::{Refused, refuse};
use crate::vfs::{LockToken, LocksSeen, Reach, Rest, VaultPath};

const NANOS: i64 = 1_000_000_000;

/// Tokens that the lists of an `If` header give.
pub fn submitted(lists: &[IfList]) -> Vec<LockToken> {
    lists
        .iter()
        .flat_map(|list| &list.conditions)
        .filter_map(|condition| match &condition.state {
            StateToken::Lock(token) if !condition.negated => token_of(token),
            StateToken::Lock(_) | StateToken::Tag(_) => None,
        })
        .collect()
}

impl Request {
    /// Refuses what the request's conditions or somebody's lock do not allow, for each path that changes.
    ///
    /// # Errors
    /// 412, 423; the refusal to answer with.
    pub async fn may_change(&self, paths: &[(&VaultPath, Reach)]) -> Result<(), Refused> {
        self.meets_conditions().await?;
        for (path, reach) in paths {
            if let Some(root) = self.namespace.lock_in_the_way(path, *reach).await? {
                return Err(locked(&root));
            }
        }
        Ok(())
    }

    /// Whether it says what must hold for it to be done.
    pub fn is_conditional(&self) -> bool {
        let conditions = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];
        !self.if_lists.is_empty() || conditions.iter().any(|name| self.headers.contains_key(name))
    }

    /// Refuses what the request's own conditions do not allow.
    ///
    /// # Errors
    /// 412; the refusal to answer with.
    pub async fn meets_conditions(&self) -> Result<(), Refused> {
        if !self.if_lists.is_empty() && !self.holds().await? {
            return refuse(StatusCode::PRECONDITION_FAILED, "the If header does not hold");
        }
        let (matching, none_matching) =
            (headers::if_match(&self.headers)?, headers::if_none_match(&self.headers));
        let unmodified = headers::text(&self.headers, &header::IF_UNMODIFIED_SINCE).ok().flatten();
        let unmodified = unmodified.and_then(headers::parse_date).filter(|_| matching.is_none());
        if matching.is_none() && none_matching.is_none() && unmodified.is_none() {
            return Ok(());
        }
        let seen = self.namespace.locks(&self.path, false).await?;
        // Above every mount there is a directory, which nothing changes.
        let found = match (&seen.attributes, seen.vault) {
            (None, None) => self.existing(&self.path).await?,
            (found, _) => found.clone(),
        };
        let tag = found.as_ref().map(etag);
        let first = match (&matching, &found) {
            (Some(tags), _) => tag.as_deref().is_some_and(|tag| tags.matches(tag)),
            (None, Some(found)) => unmodified.is_none_or(|since| found.mtime.0.div_euclid(NANOS) <= since),
            (None, None) => true,
        };
        let second = match (&none_matching, &tag) {
            (Some(tags), Some(tag)) => !tags.matches(tag),
            (Some(_) | None, _) => true,
        };
        if !first || !second {
            return refuse(StatusCode::PRECONDITION_FAILED, "this is not the state that was meant");
        }
        if let (Some(vault), Some(found)) = (seen.vault, &found) {
            match &matching {
                Some(headers::Tags::Any) => self.namespace.rest_on(Rest::Present(vault, found.inode)),
                Some(headers::Tags::List(_)) => {
                    self.namespace.rest_on(Rest::Content(vault, found.inode, found.content));
                }
                None if unmodified.is_some() => {
                    self.namespace.rest_on(Rest::Content(vault, found.inode, found.content));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Whether one list of the `If` header holds (RFC 4918 section 10.4.3).
    async fn holds(&self) -> Result<bool, Refused> {
        let mut known: HashMap<Vec<u8>, LocksSeen> = HashMap::new();
        for list in &self.if_lists {
            let path = match &list.resource {
                None => self.path.clone(),
                // What is not ours has no state that we know.
                Some(uri) => {
                    match headers::local_path(
                        uri,
                        self.host.as_deref(),
                        &self.shared.settings.now().public_names,
                    ) {
                        Ok(path) => path,
                        Err(_) => continue,
                    }
                }
            };
            let key = path.to_bytes();
            if !known.contains_key(&key) {
                known.insert(key.clone(), self.namespace.locks(&path, false).await?);
            }
            let Some(seen) = known.get(&key) else { continue };
            let tag = seen.attributes.as_ref().map(etag);
            let all = list.conditions.iter().all(|condition| {
                let found = match &condition.state {
                    StateToken::Lock(uri) => token_of(uri).is_some_and(|token| {
                        seen.itself.iter().any(|lock| {
                            lock.record.token == token && lock.record.holder == self.namespace.holder()
                        })
                    }),
                    StateToken::Tag(wanted) => {
                        tag.as_deref() == Some(wanted.strip_prefix("W/").unwrap_or(wanted))
                    }
                };
                found != condition.negated
            });
            if all {
                self.rest_on_list(list, seen);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rest_on_list(&self, list: &IfList, seen: &LocksSeen) {
        let Some(vault) = seen.vault else { return };
        for condition in list.conditions.iter().filter(|condition| !condition.negated) {
            let rest = match &condition.state {
                StateToken::Lock(uri) => token_of(uri).map(|token| Rest::Lock(vault, token)),
                StateToken::Tag(_) => {
                    let found = seen.attributes.as_ref();
                    found.map(|found| Rest::Content(vault, found.inode, found.content))
                }
            };
            if let Some(rest) = rest {
                self.namespace.rest_on(rest);
            }
        }
    }
}

/// The refusal of a change because of a lock with that root.
pub fn locked(root: &VaultPath) -> Refused {
    Refused {
        condition: Some("lock-token-submitted"),
        hrefs: vec![Request::href(root, false)],
        ..Refused::new(StatusCode::LOCKED, "the resource is locked")
    }
}
