//! From method and path to an endpoint: version prefix, tidy paths, one table of patterns.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::query::{Plus, decode};
use crate::http::reply::Reply;
use crate::http::version::ApiVersion;

/// What runs for an endpoint.
pub type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;

/// One operation of the API.
pub struct Endpoint {
    /// HTTP method, in capitals.
    pub method: &'static str,
    /// Path without version; one `{name}` stands for an object and may hold slashes.
    pub path: &'static str,
    /// Name of the operation in the API's description.
    pub operation: &'static str,
    /// What it does with the connection.
    pub kind: Kind,
    /// What runs.
    pub run: Handler,
}

/// What an endpoint does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It reads a document, if anything, and answers.
    Plain,
    /// It reads a body of any size while it works.
    Upload,
    /// It may take the connection over; a half-closed one is still in use.
    Hijack,
}

/// Declares an [`Endpoint`] for an async function.
macro_rules! endpoint {
    ($method:literal $path:literal, $operation:literal, $run:path) => {
        endpoint!($method $path, $operation, $run, Plain)
    };
    ($method:literal $path:literal, $operation:literal, $run:path, $kind:ident) => {
        $crate::http::router::Endpoint {
            method: $method,
            path: $path,
            operation: $operation,
            kind: $crate::http::router::Kind::$kind,
            run: |call| Box::pin($run(call)),
        }
    };
}
pub(crate) use endpoint;

/// Where a request goes.
pub enum Route {
    /// To an endpoint.
    Endpoint {
        /// The endpoint.
        endpoint: &'static Endpoint,
        /// The object that the path names.
        object: String,
        /// The version that the client speaks.
        version: ApiVersion,
    },
    /// To the same thing under its tidy path.
    Moved(String),
    /// Nowhere (B015).
    NotFound,
    /// To any path, by `OPTIONS`.
    Options,
    /// Nowhere, because of its version.
    Refused(ApiError),
}

/// Finds the endpoint for a method and a path as they stand in the request line.
pub fn route(table: &'static [&'static [Endpoint]], oldest: ApiVersion, method: &str, raw_path: &str) -> Route {
    let decoded = decode(raw_path, Plus::IsPlus);
    let tidy = tidy(&decoded);
    if tidy != decoded {
        return Route::Moved(encode(&tidy));
    }
    let (version, path) = match split_version(&decoded) {
        None => (ApiVersion::NEWEST, decoded.as_str()),
        Some((version, path)) => match version.check(oldest) {
            Ok(version) => (version, path),
            Err(refused) => return Route::Refused(refused),
        },
    };
    if method == "OPTIONS" {
        return Route::Options;
    }
    match find(table, method, path) {
        Some((endpoint, object)) => Route::Endpoint { endpoint, object: object.to_owned(), version },
        None => Route::NotFound,
    }
}

fn find<'p>(
    table: &'static [&'static [Endpoint]],
    method: &str,
    path: &'p str,
) -> Option<(&'static Endpoint, &'p str)> {
    let candidates = || table.iter().copied().flatten().filter(|endpoint| endpoint.method == method);
    // A literal path wins over a pattern that would also hold it.
    let exact = candidates().find(|endpoint| endpoint.path == path).map(|endpoint| (endpoint, ""));
    exact.or_else(|| candidates().find_map(|endpoint| Some((endpoint, object_of(endpoint.path, path)?))))
}

/// The part of a path that stands for the pattern's object.
fn object_of<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let (before, rest) = pattern.split_once('{')?;
    let (_, after) = rest.split_once('}')?;
    let object = path.strip_prefix(before)?.strip_suffix(after)?;
    (!object.is_empty() || after.is_empty()).then_some(object)
}

/// Takes `/v1.44` off a path.
fn split_version(path: &str) -> Option<(ApiVersion, &str)> {
    let rest = path.strip_prefix("/v")?;
    let (version, tail) = rest.split_at(rest.find('/')?);
    Some((version.parse().ok()?, tail))
}

/// The path without empty and dotted segments, as clients are redirected to it.
fn tidy(path: &str) -> Cow<'_, str> {
    let untidy = path.contains("//") || path.split('/').any(|segment| segment == "." || segment == "..");
    if !untidy && path.starts_with('/') {
        return Cow::Borrowed(path);
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    Cow::Owned(format!("/{}{slash}", segments.join("/")))
}

fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~:@!$&'()*+,;=".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    async fn nothing(_: Call) -> Result<Reply, ApiError> {
        Ok(Reply::empty(StatusCode::OK))
    }

    static TABLE: &[&[Endpoint]] = &[&[
        endpoint!("GET" "/_ping", "Ping", nothing),
        endpoint!("GET" "/containers/json", "ContainerList", nothing),
        endpoint!("GET" "/containers/{name}/json", "ContainerInspect", nothing),
        endpoint!("DELETE" "/containers/{name}", "ContainerDelete", nothing),
        endpoint!("GET" "/images/{name}/json", "ImageInspect", nothing),
        endpoint!("GET" "/networks/", "NetworkList", nothing),
        endpoint!("GET" "/networks/{id}", "NetworkInspect", nothing),
    ]];

    fn routed(method: &str, path: &str) -> String {
        match route(TABLE, ApiVersion::OLDEST, method, path) {
            Route::Endpoint { endpoint, object, version } => format!("{} {object:?} {version}", endpoint.operation),
            Route::Moved(path) => format!("moved {path}"),
            Route::NotFound => "not found".to_owned(),
            Route::Options => "options".to_owned(),
            Route::Refused(error) => error.message,
        }
    }

    #[test]
    fn paths_find_their_endpoint() {
        for (method, path, expected) in [
            ("GET", "/_ping", "Ping \"\" 1.56"),
            ("GET", "/v1.24/_ping", "Ping \"\" 1.24"),
            ("GET", "/containers/json", "ContainerList \"\" 1.56"),
            ("GET", "/v1.44/containers/a/json", "ContainerInspect \"a\" 1.44"),
            ("DELETE", "/containers/json", "ContainerDelete \"json\" 1.56"),
            ("DELETE", "/containers/", "ContainerDelete \"\" 1.56"),
            ("GET", "/images/localhost:5000/a/b:1/json", "ImageInspect \"localhost:5000/a/b:1\" 1.56"),
            ("GET", "/images/a%2Fb/json", "ImageInspect \"a/b\" 1.56"),
            ("GET", "/networks/", "NetworkList \"\" 1.56"),
            ("GET", "/networks/x", "NetworkInspect \"x\" 1.56"),
            ("OPTIONS", "/v1.56/whatever", "options"),
            ("HEAD", "/containers/json", "not found"),
            ("get", "/_ping", "not found"),
            ("GET", "/", "not found"),
            ("GET", "/nosuch", "not found"),
            ("GET", "/vabc/_ping", "not found"),
            ("GET", "/v1.56/_ping/", "not found"),
            ("GET", "/v1.56//_ping", "moved /v1.56/_ping"),
            ("GET", "/containers//a/json", "moved /containers/a/json"),
            ("GET", "/containers/%2Fa%20b/json", "moved /containers/a%20b/json"),
            ("GET", "/containers/../_ping", "moved /_ping"),
            ("GET", "/v1.57/_ping", "client version 1.57 is too new. Maximum supported API version is 1.56"),
        ] {
            assert_eq!(routed(method, path), expected, "{method} {path}");
        }
    }
}
