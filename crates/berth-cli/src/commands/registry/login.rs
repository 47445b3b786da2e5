//! `berth login`.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use berth_api::auth::{AuthConfig, AuthResponse};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::credentials::{Credentials, DEFAULT_SERVER, Stored, host_of, server_key};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Login>(
    "",
    "login",
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    Arity::AtMost(1),
)
.top(&["login"]);

/// Checks credentials and keeps them.
#[derive(Args)]
pub struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    server: Option<String>,
}

impl Command for Login {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let server = server_key(host_of(self.server.as_deref().unwrap_or_default()));
        let mut credentials = Credentials::open(&cx.globals().config_dir())?;
        let mut config = self.given(cx)?;
        config.server_address = server.clone();
        if config.username.is_empty() && config.password.is_empty() {
            let known = credentials.of(&server)?;
            if !known.username.is_empty() || !known.identity_token.is_empty() {
                let user = if known.username.is_empty() { "<token>" } else { &known.username };
                cx.say(format!("Authenticating with existing credentials... [Username: {user}]\n"))?;
                config = AuthConfig { server_address: server.clone(), ..known };
                if let Ok(answer) = check(cx, &config) {
                    return finish(cx, &mut credentials, config, answer);
                }
                cx.say("Login did not succeed, error: the credentials that are stored are refused")?;
                config = AuthConfig { server_address: server.clone(), ..AuthConfig::default() };
            }
        }
        if config.username.is_empty() || config.password.is_empty() {
            ask(cx, &mut config)?;
        }
        let answer = check(cx, &config)?;
        finish(cx, &mut credentials, config, answer)
    }
}

impl Login {
    /// What the command line says.
    fn given(&self, cx: &Context) -> Result<AuthConfig, CliError> {
        let username = self.username.clone().unwrap_or_default();
        if self.password.is_some() && self.password_stdin {
            return Err(CliError::message("conflicting options: cannot specify both --password and --password-stdin"));
        }
        let password = match (&self.password, self.password_stdin) {
            (Some(password), _) => {
                cx.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
                password.clone()
            }
            (None, true) if username.is_empty() => {
                return Err(CliError::message("the --password-stdin option requires --username to be set"));
            }
            (None, true) => {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text)?;
                text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text)).to_owned()
            }
            (None, false) => String::new(),
        };
        if self.password_stdin && password.is_empty() {
            return Err(CliError::message("password is empty"));
        }
        Ok(AuthConfig { username, password, ..AuthConfig::default() })
    }
}

fn check(cx: &Context, config: &AuthConfig) -> Result<AuthResponse, CliError> {
    Ok(cx.client()?.post("/auth").json(config).send()?.json()?)
}

fn finish(
    cx: &Context,
    credentials: &mut Credentials,
    mut config: AuthConfig,
    answer: AuthResponse,
) -> Result<(), CliError> {
    if !answer.identity_token.is_empty() {
        config.password.clear();
        config.identity_token = answer.identity_token;
    }
    if let Stored::File(path) = credentials.store(&config)? {
        cx.warn(format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    cx.say(if answer.status.is_empty() { "Login Succeeded".to_owned() } else { answer.status })
}

/// Asks on the terminal.
fn ask(cx: &Context, config: &mut AuthConfig) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::message("Error: Cannot perform an interactive login from a non TTY device"));
    }
    if config.server_address == DEFAULT_SERVER {
        cx.say("Log in with your Docker ID or email address to push and pull images from Docker Hub.")?;
    }
    if config.username.is_empty() {
        config.username = prompt("Username: ")?;
    }
    if config.username.is_empty() {
        return Err(CliError::message("username is required"));
    }
    if config.password.is_empty() {
        config.password = secretly(|| prompt("Password: "))?;
        cx.say("")?;
    }
    if config.password.is_empty() {
        return Err(CliError::message("password is required"));
    }
    Ok(())
}

fn prompt(question: &str) -> Result<String, CliError> {
    let mut out = io::stdout().lock();
    write!(out, "{question}")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Does it while the terminal does not show what is typed.
fn secretly<T>(action: impl FnOnce() -> Result<T, CliError>) -> Result<T, CliError> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).map_err(io::Error::from)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &silent).map_err(io::Error::from)?;
    let result = action();
    tcsetattr(&stdin, OptionalActions::Now, &before).map_err(io::Error::from)?;
    result
}
