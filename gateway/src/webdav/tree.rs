//! MKCOL, DELETE, COPY, MOVE: names come, go and move, each in one transaction.

use http::StatusCode;

use super::body::Incoming;
use super::headers::{self, Depth};
use super::request::{Answer, Request, empty};
use super::status::{Refused, refuse};
use crate::vfs::{Action, AttributeChange, Kind, Reach, Replace};

/// MKCOL.
///
/// # Errors
/// The refusal to answer with.
pub async fn make_collection(request: &Request, body: Incoming) -> Answer {
    if !request.small_body(body).await?.is_empty() {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "MKCOL takes no body");
    }
    if request.existing(&request.path).await?.is_some() {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "the name already exists");
    }
    request.parent_is_there(&request.path).await?;
    request.may_change(&[(&request.path, Reach::Name)]).await?;
    request.namespace.make_directory(&request.path, AttributeChange::default()).await?;
    Ok(empty(StatusCode::CREATED))
}

/// DELETE.
///
/// # Errors
/// The refusal to answer with.
pub async fn delete(request: &Request) -> Answer {
    let found = request.found().await?;
    if found.kind == Kind::Directory
        && !matches!(headers::depth(&request.headers)?, None | Some(Depth::Infinity))
    {
        return refuse(StatusCode::BAD_REQUEST, "a directory is deleted with all below it");
    }
    request.may_change(&[(&request.path, Reach::Name)]).await?;
    request.namespace.remove_tree(&request.path).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// COPY and MOVE.
///
/// # Errors
/// The refusal to answer with.
pub async fn transfer(request: &Request, is_move: bool) -> Answer {
    let found = request.found().await?;
    let target = headers::destination(
        &request.headers,
        request.host.as_deref(),
        &request.shared.settings.now().public_names,
    )?;
    let action = if is_move { Action::Rename } else { Action::Copy };
    request.namespace.is_present(action, &target).await?;
    let replace = if headers::overwrite(&request.headers)? { Replace::Tree } else { Replace::Never };
    let deep = match (headers::depth(&request.headers)?, is_move) {
        (None | Some(Depth::Infinity), _) => true,
        (Some(Depth::Zero), false) => false,
        (Some(Depth::Zero | Depth::One), _) => {
            return refuse(StatusCode::BAD_REQUEST, "this Depth has no meaning here");
        }
    };
    let (from, to) = (request.place(&request.path).await?, request.place(&target).await?);
    if from == to {
        return refuse(StatusCode::FORBIDDEN, "source and destination are the same");
    }
    if from.is_at_or_below(&to) {
        return refuse(StatusCode::FORBIDDEN, "the destination holds the source");
    }
    if found.kind == Kind::Directory && to.is_at_or_below(&from) && (is_move || deep) {
        return refuse(StatusCode::FORBIDDEN, "the source holds the destination");
    }
    let existing = request.existing(&target).await?;
    match (&existing, replace) {
        (Some(_), Replace::Never) => {
            return refuse(StatusCode::PRECONDITION_FAILED, "the destination exists");
        }
        (Some(_), Replace::Posix | Replace::Tree) => {}
        (None, _) => request.parent_is_there(&target).await?,
    }
    let changed = [(&target, Reach::Name), (&request.path, Reach::Name)];
    request.may_change(if is_move { &changed } else { &changed[..1] }).await?;
    let done = if is_move {
        request.namespace.rename(&request.path, &target, replace).await
    } else {
        request.namespace.copy(&request.path, &target, replace, deep).await
    };
    done.map_err(|error| match Refused::from(error) {
        // The name was taken between the question and the answer.
        refused if refused.status == StatusCode::METHOD_NOT_ALLOWED => {
            Refused { status: StatusCode::PRECONDITION_FAILED, ..refused }
        }
        refused => refused,
    })?;
    Ok(empty(if existing.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED }))
}
