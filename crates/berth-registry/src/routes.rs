//! Which part of the API a path belongs to. Section "Endpoints".

use std::sync::Arc;

use ::http::{Method, StatusCode};

use crate::{
    http::{body::Body, connection::Peer, head::Head, response::Response},
    names::RepositoryName,
    refusal::{Code, Refusal},
    registry::{Registry, Request},
    resources::{base, blobs, catalog, collection, manifests, page, referrers, search, tags, token, uploads},
};

/// A part of the API, with the texts of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(String, String),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(String, String),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(String),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(String, String),
    /// `/v2/NAME/tags/list`
    Tags(String),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(String, String),
    /// `/token`
    Token,
    /// `/v1/search`
    Search,
    /// `/v1/_ping`
    LegacyPing,
    /// `/healthz`
    Health,
    /// `/metrics`
    Metrics,
    /// `/-/collect`, for the owner of the directory
    Collect,
    /// `/` and `/ui/NAME`
    Page(Option<String>),
    /// Anything else.
    Unknown,
}

impl Route {
    /// The route of a path without encoding.
    pub fn of(path: &str) -> Route {
        match path {
            "/" | "/ui" | "/ui/" => return Route::Page(None),
            "/v2/" | "/v2" => return Route::Base,
            "/v2/_catalog" => return Route::Catalog,
            "/token" => return Route::Token,
            "/v1/search" => return Route::Search,
            "/v1/_ping" => return Route::LegacyPing,
            "/healthz" => return Route::Health,
            "/metrics" => return Route::Metrics,
            "/-/collect" => return Route::Collect,
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/ui/") {
            return Route::Page(Some(name.to_owned()));
        }
        path.strip_prefix("/v2/").map_or(Route::Unknown, of_repository)
    }

    /// A word for statistics.
    pub fn word(&self) -> &'static str {
        match self {
            Route::Base => "base",
            Route::Catalog => "catalog",
            Route::Manifest(..) => "manifest",
            Route::Blob(..) => "blob",
            Route::Uploads(_) | Route::Upload(..) => "upload",
            Route::Tags(_) => "tags",
            Route::Referrers(..) => "referrers",
            Route::Token => "token",
            Route::Search | Route::LegacyPing => "search",
            Route::Health | Route::Metrics | Route::Collect => "operation",
            Route::Page(_) => "page",
            Route::Unknown => "unknown",
        }
    }
}

/// Splits from the right: a repository's name may have any of these words in it.
fn of_repository(path: &str) -> Route {
    if let Some(name) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
        return Route::Uploads(name.to_owned());
    }
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Route::Tags(name.to_owned());
    }
    let Some((front, last)) = path.rsplit_once('/') else { return Route::Unknown };
    let last = last.to_owned();
    if let Some(name) = front.strip_suffix("/blobs/uploads") {
        return Route::Upload(name.to_owned(), last);
    }
    match front.rsplit_once('/') {
        Some((name, "manifests")) => Route::Manifest(name.to_owned(), last),
        Some((name, "blobs")) => Route::Blob(name.to_owned(), last),
        Some((name, "referrers")) => Route::Referrers(name.to_owned(), last),
        _ => Route::Unknown,
    }
}

/// Answers a request; also gives the word of its route.
pub async fn answer(
    registry: &Arc<Registry>,
    head: &Head,
    body: &mut Body<'_>,
    peer: &Peer,
) -> (&'static str, Response) {
    let route = Route::of(&head.path);
    let word = route.word();
    let is_api = head.path.starts_with("/v2");
    let answered = dispatch(registry, head, body, peer, route).await;
    let response = answered.unwrap_or_else(Refusal::response);
    (word, if is_api { response.with("Docker-Distribution-Api-Version", "registry/2.0") } else { response })
}

async fn dispatch(
    registry: &Arc<Registry>,
    head: &Head,
    body: &mut Body<'_>,
    peer: &Peer,
    route: Route,
) -> Result<Response, Refusal> {
    // What needs no caller: it must answer while passwords are unreadable, too.
    match &route {
        Route::Health => return base::health(registry),
        Route::Collect => return collection::post(registry, head, peer).await,
        Route::Token => {
            registry.limits.admit(peer)?;
            return token::answer(registry, head, body).await;
        }
        Route::LegacyPing => return Ok(Response::json(StatusCode::OK, &serde_json::json!({"standalone": true}))),
        Route::Unknown => {
            let refusal = Refusal::new(Code::Unsupported, "page not found").status(StatusCode::NOT_FOUND);
            return Err(refusal);
        }
        _ => {}
    }
    registry.limits.admit(peer)?;
    let caller = match registry.gate.caller(head, peer).await {
        Ok(caller) => caller,
        Err(_) if matches!(route, Route::Page(_)) => return Ok(page::ask_for_password()),
        Err(refusal) => return Err(refusal),
    };
    let request = Request { registry, head, peer, caller: &caller, upstream: None };
    of_route(request, body, route).await
}

async fn of_route(mut request: Request<'_>, body: &mut Body<'_>, route: Route) -> Result<Response, Refusal> {
    let method = &request.head.method;
    match (route, method) {
        (Route::Base, &Method::GET | &Method::HEAD) => base::get(request),
        (Route::Metrics, &Method::GET) => base::metrics(request),
        (Route::Catalog, &Method::GET) => catalog::get(request),
        (Route::Search, &Method::GET) => search::get(request),
        (Route::Page(name), &Method::GET | &Method::HEAD) => page::get(request, name.as_deref()),
        (Route::Manifest(name, reference), _) => {
            let (name, reference) = (repository(&mut request, &name)?, reference.parse()?);
            match *method {
                Method::GET | Method::HEAD => manifests::get(request, &name, &reference).await,
                Method::PUT => manifests::put(request, body, name, reference).await,
                Method::DELETE => manifests::delete(request, &name, reference).await,
                _ => Err(not_allowed("GET, HEAD, PUT, DELETE")),
            }
        }
        (Route::Blob(name, digest), _) => {
            let (name, digest) = (repository(&mut request, &name)?, digest.parse()?);
            match *method {
                Method::GET | Method::HEAD => blobs::get(request, &name, &digest).await,
                Method::DELETE => blobs::delete(request, &name, digest).await,
                _ => Err(not_allowed("GET, HEAD, DELETE")),
            }
        }
        (Route::Uploads(name), &Method::POST) => {
            let name = repository(&mut request, &name)?;
            uploads::post(request, body, name).await
        }
        (Route::Upload(name, id), _) => {
            let name = repository(&mut request, &name)?;
            match *method {
                Method::GET | Method::HEAD => uploads::get(request, &name, &id).await,
                Method::PATCH => uploads::patch(request, body, &name, &id).await,
                Method::PUT => uploads::put(request, body, name, &id).await,
                Method::DELETE => uploads::delete(request, &name, &id).await,
                _ => Err(not_allowed("GET, PATCH, PUT, DELETE")),
            }
        }
        (Route::Tags(name), &Method::GET | &Method::HEAD) => {
            let name = repository(&mut request, &name)?;
            tags::get(request, &name).await
        }
        (Route::Referrers(name, subject), &Method::GET | &Method::HEAD) => {
            let name = repository(&mut request, &name)?;
            referrers::get(request, &name, &subject.parse()?)
        }
        (Route::Uploads(_), _) => Err(not_allowed("POST")),
        _ => Err(not_allowed("GET")),
    }
}

/// The repository that a path names, as it is called here; of a cache also which registry is meant.
fn repository(request: &mut Request<'_>, text: &str) -> Result<RepositoryName, Refusal> {
    let Some(upstreams) = &request.registry.upstreams else { return Ok(text.parse()?) };
    let (upstream, name) = upstreams.choose(request.head.query.get("ns"), text)?;
    request.upstream = Some(upstream);
    Ok(name)
}

/// The method is not one of this path.
pub fn not_allowed(allowed: &'static str) -> Refusal {
    Refusal::new(Code::Unsupported, format!("the method is not one of {allowed}")).with("Allow", allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_from_the_right() {
        let two = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        let route = |kind: fn(String, String) -> Route, (name, last)| kind(name, last);
        for (path, expected) in [
            ("/v2/", Route::Base),
            ("/v2", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/manifests/latest", route(Route::Manifest, two("a/b", "latest"))),
            ("/v2/manifests/manifests/x", route(Route::Manifest, two("manifests", "x"))),
            ("/v2/a/blobs/sha256:0", route(Route::Blob, two("a", "sha256:0"))),
            ("/v2/a/blobs/uploads/", Route::Uploads("a".to_owned())),
            ("/v2/a/blobs/uploads/blobs/uploads/", Route::Uploads("a/blobs/uploads".to_owned())),
            ("/v2/a/blobs/uploads/id", route(Route::Upload, two("a", "id"))),
            ("/v2/a/tags/list", Route::Tags("a".to_owned())),
            ("/v2/a/referrers/sha256:0", route(Route::Referrers, two("a", "sha256:0"))),
            ("/v2/a/other", Route::Unknown),
            ("/v2/manifests/x", Route::Unknown),
            ("/v3/", Route::Unknown),
            ("/ui/a/b", Route::Page(Some("a/b".to_owned()))),
        ] {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }
}
