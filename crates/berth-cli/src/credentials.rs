//! Credentials of registries in the user's `config.json`, in helpers that keep them elsewhere, and in the environment (B196).
//!
//! A helper is a program `docker-credential-NAME`: it reads a server's address or a document on its standard input and answers on its
//! standard output. It is the user's own choice, so that this is the one place where the client runs other programs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use berth_api::auth::AuthConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::CliError;

/// The key of the default registry.
pub const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";
/// What a helper calls the user where the secret is a token.
const TOKEN_USER: &str = "<token>";
/// A whole `config.json` in a variable; it counts before the file, and is never written.
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// Where credentials are.
pub struct Credentials {
    path: PathBuf,
    document: Map<String, Value>,
    /// `auths` of the environment.
    given: Option<Map<String, Value>>,
}

/// Where credentials were put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In the file, readable for whoever can read it.
    File(PathBuf),
    /// With a helper.
    Helper,
}

/// What helpers read and write.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

impl Credentials {
    /// Opens the configuration of a directory.
    ///
    /// # Errors
    /// If the file is there and cannot be understood: writing it would lose what it holds.
    pub fn open(directory: &Path) -> Result<Credentials, CliError> {
        let path = directory.join("config.json");
        let document = match std::fs::read(&path) {
            Ok(bytes) if !bytes.trim_ascii().is_empty() => serde_json::from_slice(&bytes)
                .map_err(|error| CliError::message(format!("{}: {error}", path.display())))?,
            _ => Map::new(),
        };
        let given = std::env::var(VARIABLE).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let given = given.and_then(|value| value.get("auths").and_then(Value::as_object).cloned());
        Ok(Credentials { path, document, given })
    }

    /// What is known for a registry, by its host and port; empty if nothing.
    ///
    /// # Errors
    /// If a helper fails for another reason than that it knows nothing.
    pub fn of(&self, domain: &str) -> Result<AuthConfig, CliError> {
        let server = server_key(domain);
        let from_environment = self.given.as_ref().and_then(|auths| find(auths, &server));
        if let Some(known) = from_environment {
            return Ok(known);
        }
        if let Some(helper) = self.helper(&server) {
            return ask(&helper, &server);
        }
        Ok(self.auths().and_then(|auths| find(auths, &server)).unwrap_or_default())
    }

    /// The header that requests about a registry carry: base64url of a document.
    ///
    /// # Errors
    /// As [`Credentials::of`].
    pub fn header(&self, domain: &str) -> Result<String, CliError> {
        let known = self.of(domain)?;
        Ok(URL_SAFE.encode(serde_json::to_vec(&known).unwrap_or_default()))
    }

    /// Keeps credentials.
    ///
    /// # Errors
    /// If the file cannot be written, or the helper fails.
    pub fn store(&mut self, config: &AuthConfig) -> Result<Stored, CliError> {
        let server = config.server_address.clone();
        let (username, secret) = match config.identity_token.as_str() {
            "" => (config.username.clone(), config.password.clone()),
            token => (TOKEN_USER.to_owned(), token.to_owned()),
        };
        if let Some(helper) = self.helper(&server) {
            let document = Secret { server: server.clone(), username, secret };
            run(&helper, "store", &serde_json::to_vec(&document).unwrap_or_default())?;
            // The file remembers that there is something, as docker's client does.
            self.entry().insert(server, Value::Object(Map::new()));
            self.write()?;
            return Ok(Stored::Helper);
        }
        let mut entry = Map::new();
        entry.insert("auth".to_owned(), STANDARD.encode(format!("{}:{}", config.username, config.password)).into());
        if !config.identity_token.is_empty() {
            entry.insert("auth".to_owned(), STANDARD.encode(format!("{}:", config.username)).into());
            entry.insert("identitytoken".to_owned(), config.identity_token.clone().into());
        }
        self.entry().insert(server, Value::Object(entry));
        self.write()?;
        Ok(Stored::File(self.path.clone()))
    }

    /// Forgets credentials.
    ///
    /// # Errors
    /// As [`Credentials::store`].
    pub fn erase(&mut self, server: &str) -> Result<(), CliError> {
        if let Some(helper) = self.helper(server) {
            run(&helper, "erase", server.as_bytes())?;
        }
        let forms = [server.to_owned(), format!("https://{server}"), format!("http://{server}")];
        let known = self.auths().is_some_and(|auths| forms.iter().any(|form| auths.contains_key(form)));
        if !known {
            return Ok(());
        }
        for form in forms {
            self.entry().shift_remove(&form);
        }
        self.write()
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.document.get("auths").and_then(Value::as_object)
    }

    fn entry(&mut self) -> &mut Map<String, Value> {
        let auths = self.document.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        auths.as_object_mut().expect("it was just made one")
    }

    /// The helper of a server, or the one of all.
    fn helper(&self, server: &str) -> Option<String> {
        let own = self
            .document
            .get("credHelpers")
            .and_then(|helpers| helpers.get(host_of(server)).or_else(|| helpers.get(server)));
        let name = own.or_else(|| self.document.get("credsStore")).and_then(Value::as_str);
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// Replaces the file as a whole; a crash leaves the old one.
    fn write(&self) -> Result<(), CliError> {
        let failed = |error: std::io::Error| {
            CliError::message(format!(
                "Error saving credentials: {}: {}",
                self.path.display(),
                crate::human::system_error(&error)
            ))
        };
        let mut text = Vec::new();
        let mut serializer =
            serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
        self.document.serialize(&mut serializer).map_err(|error| failed(error.into()))?;
        // A link stays one: many people keep this file elsewhere.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(failed)?;
        let partial = directory.join(format!(".config.json.{}", std::process::id()));
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).and_then(|mut file: File| {
                file.write_all(&text)?;
                file.sync_all()
            });
        let placed = written.and_then(|()| std::fs::rename(&partial, &path));
        placed.map_err(|error| {
            let _ = std::fs::remove_file(&partial);
            failed(error)
        })
    }
}

/// The key that a registry's credentials have.
pub fn server_key(domain: &str) -> String {
    match domain {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" | "" => DEFAULT_SERVER.to_owned(),
        domain => domain.to_owned(),
    }
}

/// Host and port of a server's address.
pub fn host_of(server: &str) -> &str {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    bare.split('/').next().unwrap_or_default()
}

/// The entry of a server, under its very key or under an older form of its address.
fn find(auths: &Map<String, Value>, server: &str) -> Option<AuthConfig> {
    let exact = auths.get_key_value(server);
    let alike = || auths.iter().find(|(key, _)| host_of(key) == host_of(server));
    let (key, entry) = exact.or_else(alike)?;
    let mut config: AuthConfig = serde_json::from_value(entry.clone()).ok()?;
    if let Ok(both) = STANDARD.decode(std::mem::take(&mut config.auth))
        && let Ok(both) = String::from_utf8(both)
        && let Some((user, password)) = both.split_once(':')
    {
        config.username = user.to_owned();
        config.password = password.trim_end_matches('\0').to_owned();
    }
    config.server_address = key.clone();
    Some(config)
}

fn ask(helper: &str, server: &str) -> Result<AuthConfig, CliError> {
    let output = match run(helper, "get", server.as_bytes()) {
        Err(error) if error.to_string().contains("credentials not found") => return Ok(AuthConfig::default()),
        output => output?,
    };
    let secret: Secret = serde_json::from_slice(&output)
        .map_err(|error| CliError::message(format!("docker-credential-{helper} gave no document: {error}")))?;
    let mut config = AuthConfig { server_address: server.to_owned(), ..AuthConfig::default() };
    if secret.username == TOKEN_USER {
        config.identity_token = secret.secret;
    } else {
        (config.username, config.password) = (secret.username, secret.secret);
    }
    Ok(config)
}

/// Runs a helper, and gives what it says.
fn run(helper: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, CliError> {
    let program = format!("docker-credential-{helper}");
    let refused = |reason: String| CliError::message(format!("error getting credentials - err: {program}: {reason}"));
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| refused(crate::human::system_error(&error)))?;
    // A helper that ends without reading says why on its output.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output().map_err(|error| refused(crate::human::system_error(&error)))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(refused(String::from_utf8_lossy(output.stdout.trim_ascii()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(server: &str, user: &str) -> AuthConfig {
        AuthConfig {
            username: user.to_owned(),
            password: "p:w".to_owned(),
            server_address: server.to_owned(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn what_is_stored_is_found_and_everything_else_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"zzz":{"a":[1]},"auths":{"https://old.example/v1/":{"auth":"dTpw"}},"aaa":1}"#)
            .expect("write");
        let mut credentials = Credentials::open(dir.path()).expect("open");
        assert_eq!(credentials.store(&login("reg:5000", "me")).expect("store"), Stored::File(path.clone()));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("file").permissions());
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.starts_with("{\n\t\"zzz\": {") && text.contains("\"aaa\": 1"), "{text}");
        let mut again = Credentials::open(dir.path()).expect("open");
        assert_eq!(again.of("reg:5000").expect("known"), login("reg:5000", "me"));
        let old = again.of("old.example").expect("older form");
        assert_eq!((old.username.as_str(), old.password.as_str()), ("u", "p"));
        assert_eq!(again.of("docker.io").expect("nothing"), AuthConfig::default());
        again.erase("reg:5000").expect("erase");
        assert_eq!(Credentials::open(dir.path()).expect("open").of("reg:5000").expect("gone"), AuthConfig::default());
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_never_replaced() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("config.json"), "{oops").expect("write");
        assert!(Credentials::open(dir.path()).is_err());
    }
}
