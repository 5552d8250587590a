//! One request: who asks, about what, by which method.

use std::net::IpAddr;
use std::sync::Arc;

use coffre_auth::credential::tls_certificate::ClientCertificate;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use zeroize::Zeroizing;

use super::body::Incoming;
use super::headers;
use super::preconditions::submitted;
use super::request::{Answer, Body, Request, Shared, empty, refusal};
use super::status::{Refused, refuse};
use super::{get, locking, partial, propfind, proppatch, put, tree, uploads};
use crate::accounts::{Accounts, LoginError};
use crate::line::stream::Rein;
use crate::session::SharedSession;
use crate::vfs::{Action, Vfs};

/// Methods that are answered.
const ALLOW: &str =
    "OPTIONS, GET, HEAD, PUT, PATCH, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH, LOCK, UNLOCK";

/// Answers requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    /// What the listener knows.
    pub shared: Arc<Shared>,
    /// Who is who.
    pub accounts: Accounts,
    /// The door.
    pub vfs: Vfs,
}

impl Service {
    /// Answers one request. Nothing of the body is read before its sender was proven.
    pub async fn answer(&self, request: http::Request<Incoming>, source: IpAddr) -> Response<Body> {
        let refused = match self.serve(request, source).await {
            Ok(response) => return response,
            Err(refused) => refused,
        };
        let mut response = refusal(&refused);
        match refused.status {
            StatusCode::UNAUTHORIZED => {
                let realm = HeaderValue::from_static("Basic realm=\"Coffre\", charset=\"UTF-8\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOW));
            }
            _ => {}
        }
        response
    }

    /// Whom a request proves, if it tries to: by a name and a token, or else by its connection's certificate.
    async fn proven(
        &self,
        parts: &http::request::Parts,
        basic: Option<&(String, Zeroizing<String>)>,
        source: IpAddr,
    ) -> Option<Result<SharedSession, LoginError>> {
        if let Some((user, token)) = basic {
            return Some(self.accounts.request_session(user, token, source).await);
        }
        // Who says something that cannot be read is not taken for somebody else.
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return None;
        }
        let certificate = parts.extensions.get::<Arc<ClientCertificate>>()?;
        self.accounts.certified_request(certificate, source).await
    }

    async fn serve(&self, request: http::Request<Incoming>, source: IpAddr) -> Answer {
        let (parts, body) = request.into_parts();
        let basic = headers::basic(&parts.headers);
        let Some(proven) = self.proven(&parts, basic.as_ref(), source).await else {
            if parts.method == Method::OPTIONS && asks_before_login(&parts.headers) {
                return Ok(options());
            }
            return refuse(StatusCode::UNAUTHORIZED, "log in with a user name and an app token");
        };
        let session = match proven {
            Ok(session) => session,
            Err(LoginError::Throttled(secs)) => return Ok(throttled(secs)),
            Err(error) => return refuse(status_of(error), &error.to_string()),
        };
        let user = basic.map_or_else(|| session.principal.user_name.clone(), |(user, _)| user);
        if let Some(rein) = parts.extensions.get::<Arc<Rein>>() {
            rein.set(session.pace.clone());
        }
        let host = headers::text(&parts.headers, &header::HOST)?.map(str::to_owned);
        let host = host.or_else(|| parts.uri.authority().map(ToString::to_string));
        let encoded = parts.uri.path();
        if encoded == "*" && parts.method == http::Method::OPTIONS {
            return Ok(options());
        }
        // What cannot be read is never ignored.
        let if_lists = headers::if_lists(&parts.headers)?;
        let namespace = self.vfs.namespace(session).also_at(uploads::files_at(&user));
        let request = Request {
            shared: Arc::clone(&self.shared),
            now: namespace.now().0,
            namespace: namespace.with_tokens(submitted(&if_lists)),
            if_lists,
            path: headers::path(encoded)?,
            names_collection: encoded.ends_with('/'),
            headers: parts.headers,
            host,
        };
        if parts.method != "OPTIONS"
            && let Some(place) = uploads::place(&request.path, &user)?
        {
            return uploads::serve(&request, parts.method.as_str(), place, body).await;
        }
        if let Some(action) = change_of(parts.method.as_str()) {
            request.namespace.is_present(action, &request.path).await?;
        }
        match parts.method.as_str() {
            "OPTIONS" => Ok(options()),
            "GET" => get::get(&request, false).await,
            "HEAD" => get::get(&request, true).await,
            "PUT" if request.headers.contains_key(header::CONTENT_RANGE) => {
                partial::put(&request, body).await
            }
            "PUT" => put::put(&request, body).await,
            "DELETE" => tree::delete(&request).await,
            "MKCOL" => tree::make_collection(&request, body).await,
            "COPY" => tree::transfer(&request, false).await,
            "MOVE" => tree::transfer(&request, true).await,
            "PROPFIND" => propfind::find(request, body).await,
            "PROPPATCH" => proppatch::patch(&request, body).await,
            "LOCK" => locking::lock(&request, body).await,
            "UNLOCK" => locking::unlock(&request).await,
            "PATCH" => partial::patch(&request, body).await,
            "POST" => Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "this method has no meaning here")),
            _ => Err(Refused::new(StatusCode::NOT_IMPLEMENTED, "this method is not known here")),
        }
    }
}

/// Whether Windows' redirector asks what this server is: it sends no credential with that. The answer is the same for every
/// path. All others hear 401, which tells Office and davfs2 that they are to log in.
fn asks_before_login(headers: &HeaderMap) -> bool {
    headers::is_windows(headers) && !headers.contains_key(header::AUTHORIZATION)
}

/// What a method changes at the path that it names.
fn change_of(method: &str) -> Option<Action> {
    match method {
        "PUT" | "PATCH" => Some(Action::FileWrite),
        "DELETE" => Some(Action::Remove),
        "MKCOL" => Some(Action::DirectoryCreate),
        "MOVE" => Some(Action::Rename),
        "PROPPATCH" => Some(Action::PropertiesSet),
        "LOCK" => Some(Action::LockSet),
        _ => None,
    }
}

/// What a login that was refused is answered.
fn status_of(error: LoginError) -> StatusCode {
    match error {
        LoginError::Refused => StatusCode::UNAUTHORIZED,
        LoginError::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
        LoginError::Unavailable | LoginError::Crowded => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn throttled(secs: u64) -> Response<Body> {
    let reason = LoginError::Throttled(secs).to_string();
    let mut response = refusal(&Refused::new(StatusCode::TOO_MANY_REQUESTS, reason));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    response
}

fn options() -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert("dav", HeaderValue::from_static("1, 2, 3, sabredav-partialupdate"));
    headers.insert("ms-author-via", HeaderValue::from_static("DAV"));
    headers.insert(header::ALLOW, HeaderValue::from_static(ALLOW));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}
