//! Registry client: auth, resolve, fetch, push.
//!
//! [`Registries`] is the way to all registries of an engine; [`Repository`] is one repository as one user sees it, through its mirrors and
//! the registry itself (OCI distribution specification 1.1). Its calls block, and end early when their [`berth_model::Cancel`] is set.
//!
//! HTTP/1.1 is spoken here directly over sockets and rustls, without an asynchronous library: layers are fetched by threads, each straight
//! from its socket into its file. Several connections at once do for large blobs what HTTP/2 would not: each has a window of its own.
//! Names are looked up in the hosts table and by the name servers, never by the C library.
//!
//! Deliberately absent: what becomes of the content, and which of it is wanted; digests of blobs are the caller's to check.
#![forbid(unsafe_code)]

mod auth;
mod challenge;
mod error;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hook;
mod hosts;
mod http;
mod login;
mod names;
mod proxy;
mod registries;
mod repository;
mod search;
mod session;
mod socket;
mod tls;
mod upload;
mod url;

pub use auth::Credentials;
pub use error::{DistributionError, Status};
pub use hosts::{DEFAULT_DOMAIN, Endpoint, HostSettings, Mirror};
pub use login::{LoggedIn, LoginError};
pub use proxy::{Proxies, Proxy};
pub use registries::Registries;
pub use repository::{BlobBody, Repository};
pub use search::Found;
pub use tls::HostTls;
pub use upload::{ManifestName, Sent};
pub use url::{Origin, Url};
