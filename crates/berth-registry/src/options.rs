//! The command line, and the configuration file that can say more.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

use crate::{
    auth::{Scheme, rules::Rule},
    limit::Rate,
    listen::Address,
    notify::Endpoint,
};

/// A registry on a directory
#[derive(Debug, Parser)]
#[command(name = "berth registry", version, about, disable_version_flag = true, disable_help_subcommand = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a directory as a registry
    Serve(Box<Serve>),
    /// Remove blobs that no manifest needs, also while the registry serves
    Gc(Gc),
    /// Manage the users of a password file
    #[command(subcommand)]
    User(User),
}

#[derive(Debug, Clone, Default, Args)]
pub struct Serve {
    /// The registry's directory, which is made if it is missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Address to listen on: IP:PORT, :PORT or unix:///PATH; may be repeated [default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<Address>,
    /// Serve TLS; without --tls-cert with a certificate of its own, kept in DIR/tls
    #[arg(long)]
    pub tls: bool,
    /// Certificate chain to serve TLS with
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Further name or address for the certificate of its own; may be repeated
    #[arg(long, value_name = "NAME")]
    pub tls_name: Vec<String>,
    /// Ask for the passwords of this file (bcrypt); it is read again when it changes
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// How clients show a password: with each request, or once for a token [default: basic; token with anonymous reading]
    #[arg(long, value_name = "SCHEME", value_enum)]
    pub auth: Option<Scheme>,
    /// Let everybody read
    #[arg(long)]
    pub anonymous_read: bool,
    /// Refuse every change
    #[arg(long)]
    pub read_only: bool,
    /// Refuse to delete
    #[arg(long)]
    pub no_delete: bool,
    /// The URL that clients reach the registry by, where it is not the address they name
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Be a cache of this registry: HOST, or http://HOST for one without encryption; may be repeated, see the documentation
    #[arg(long, value_name = "HOST", conflicts_with = "read_only")]
    pub proxy: Vec<String>,
    /// Post what is pushed, pulled, mounted and deleted to this URL, as Docker's registry does; may be repeated
    #[arg(long, value_name = "URL")]
    pub notify: Vec<String>,
    /// Requests that one address may make, such as 100/1s
    #[arg(long, value_name = "AMOUNT/TIME")]
    pub limit_requests: Option<Rate>,
    /// Manifests that one client may fetch, such as 100/6h
    #[arg(long, value_name = "AMOUNT/TIME")]
    pub limit_pulls: Option<Rate>,
    /// Bytes of blobs that one client may fetch, such as 10GB/1h
    #[arg(long, value_name = "AMOUNT/TIME")]
    pub limit_bytes: Option<Rate>,
    /// Collect garbage every so many seconds; 0 never does [default: 86400]
    #[arg(long, value_name = "SECONDS")]
    pub gc_interval: Option<u64>,
    /// Configuration file (JSON): rules for repositories, and any of these options
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

#[derive(Debug, Clone, Args)]
pub struct Gc {
    /// The registry's directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Keep what is younger than so many seconds: somebody may be pushing it
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub grace: u64,
    /// Also remove manifests that no tag leads to
    #[arg(long, visible_alias = "delete-untagged")]
    pub untagged: bool,
}

#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a user, or change a password; it is read from the standard input
    Add {
        /// The password file, which is made if it is missing
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The user's name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// The configuration file. What the command line says, too, it says instead.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct File {
    pub listen: Vec<String>,
    pub tls: bool,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_names: Vec<String>,
    pub htpasswd: Option<PathBuf>,
    pub auth: Option<Scheme>,
    pub anonymous_read: bool,
    pub read_only: bool,
    pub no_delete: bool,
    pub public_url: Option<String>,
    pub gc_interval: Option<u64>,
    /// The registry to be a cache of.
    pub proxy: Option<Upstream>,
    /// Further ones, that clients name (`?ns=HOST`).
    pub proxies: Vec<Upstream>,
    /// Servers to tell what happens.
    pub notifications: Vec<Endpoint>,
    /// Requests that one address may make.
    pub limit_requests: Option<String>,
    /// Manifests that one client may fetch.
    pub limit_pulls: Option<String>,
    /// Bytes of blobs that one client may fetch.
    pub limit_bytes: Option<String>,
    /// Members of groups.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who may do what where.
    pub rules: Vec<Rule>,
}

/// The registry to be a cache of, as the configuration file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Upstream {
    /// `HOST`, or `http://HOST` for one without encryption.
    pub host: String,
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub password: String,
    /// How long a tag counts as fresh.
    pub tag_seconds: Option<u64>,
    /// Directories of certificates, one for each host, as Docker has them.
    #[serde(default)]
    pub certificates: Vec<PathBuf>,
}
