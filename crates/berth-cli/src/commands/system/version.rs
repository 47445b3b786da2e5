//! `berth version`.

use berth_client::{ApiVersion, Client};
use clap::Args;
use serde_json::{Value as Json, json};
use std::io::Write;

use crate::columns;
use crate::document::typed;
use crate::inspect::{self, TEMPLATE_CODE};
use crate::template::{MissingKey, Template};
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Version>("", "version", "[OPTIONS]", "Show the Berth version information", Arity::Exactly(0))
        .top(&["version"])
        .place(Place::Common(10));

/// Shows the versions of the client and of the daemon.
#[derive(Args)]
pub struct Version {
    #[arg(short, long, value_name = "string", default_value = "", help = inspect::FORMAT_HELP)]
    format: String,
}

/// What is shown when nothing else is asked for. Lines about a compiler and a build appear where they are known.
const TEXT: &str = "\
{{with .Client -}}
Client:{{if ne .Platform nil}}{{if .Platform.Name}} {{.Platform.Name}}{{end}}{{end}}
 Version:\t{{.Version}}
 API version:\t{{.APIVersion}}{{if ne .APIVersion .DefaultAPIVersion}} (downgraded from {{.DefaultAPIVersion}}){{end}}
{{- if .GoVersion}}
 Go version:\t{{.GoVersion}}{{end}}
{{- if .GitCommit}}
 Git commit:\t{{.GitCommit}}{{end}}
{{- if .BuildTime}}
 Built:\t{{.BuildTime}}{{end}}
 OS/Arch:\t{{.Os}}/{{.Arch}}
 Context:\t{{.Context}}
{{- end}}

{{- if ne .Server nil}}{{with .Server}}

Server:{{if .Platform.Name}} {{.Platform.Name}}{{end}}
 {{- range .Components}}
 {{.Name}}:
  {{- if eq .Name \"Engine\" }}
  Version:\t{{.Version}}
  API version:\t{{index .Details \"ApiVersion\"}} (minimum version {{index .Details \"MinAPIVersion\"}})
  {{- if index .Details \"GoVersion\"}}
  Go version:\t{{index .Details \"GoVersion\"}}{{end}}
  {{- if index .Details \"GitCommit\"}}
  Git commit:\t{{index .Details \"GitCommit\"}}{{end}}
  {{- if index .Details \"BuildTime\"}}
  Built:\t{{index .Details \"BuildTime\"}}{{end}}
  OS/Arch:\t{{index .Details \"Os\"}}/{{index .Details \"Arch\"}}
  Experimental:\t{{index .Details \"Experimental\"}}
  {{- else }}
  Version:\t{{.Version}}
  {{- range $key, $value := .Details}}
  {{$key}}:\t{{$value}}
   {{- end}}
  {{- end}}
 {{- end}}
 {{- end}}{{- end}}";

impl Command for Version {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let text = match self.format.as_str() {
            "" => TEXT,
            "json" => "{{json .}}",
            own => own,
        };
        let template = Template::parse_named("version", text)
            .map_err(|error| CliError::with_code(format!("template parsing error: {error}"), TEMPLATE_CODE))?;
        let server = server(cx);
        let version = cx.client().map_or(ApiVersion::CURRENT, Client::version);
        let document = json!({
            "Client": client_version(cx, Some(version)),
            "Server": server.as_ref().ok(),
        });
        let (text, result) = template.execute_partly(typed("system.versionInfo", &document), MissingKey::NoValue);
        let mut out = columns::aligned(cx.stdout(), 20, 1);
        writeln!(out, "{text}")?;
        out.flush()?;
        server?;
        result.map_err(|error| CliError::message(error.to_string()))
    }
}

/// What the daemon tells about itself, with its times in readable form.
fn server(cx: &Context) -> Result<Json, CliError> {
    let mut document: Json = cx.client()?.get("/version").send()?.json()?;
    let engine = engine_of(&document);
    let components = &mut document["Components"];
    if !components.is_array() {
        *components = json!([]);
    }
    let list = components.as_array_mut().map(std::mem::take).unwrap_or_default();
    let known = list.iter().any(|component| component["Name"] == "Engine");
    let mut list: Vec<Json> = list.into_iter().map(with_readable_time).collect();
    if !known {
        list.push(with_readable_time(engine));
    }
    document["Components"] = list.into();
    Ok(document)
}

/// The engine as a component, for daemons that do not list it as one.
fn engine_of(document: &Json) -> Json {
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    json!({
        "Name": "Engine",
        "Version": text("Version"),
        "Details": {
            "ApiVersion": text("ApiVersion"),
            "MinAPIVersion": text("MinAPIVersion"),
            "GitCommit": text("GitCommit"),
            "GoVersion": text("GoVersion"),
            "Os": text("Os"),
            "Arch": text("Arch"),
            "BuildTime": text("BuildTime"),
            "Experimental": document["Experimental"].as_bool().unwrap_or_default().to_string(),
        },
    })
}

fn with_readable_time(mut component: Json) -> Json {
    if component["Name"] == "Engine"
        && let Some(time) =
            component["Details"]["BuildTime"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok())
    {
        let zoned = time.to_zoned(jiff::tz::TimeZone::UTC);
        component["Details"]["BuildTime"] = zoned.strftime("%a %b %e %H:%M:%S %Y").to_string().into();
    }
    component
}

/// The client as a document; with the version of the API that was agreed on, if that was asked for.
pub(crate) fn client_version(cx: &Context, api: Option<ApiVersion>) -> Json {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": api.map(|version| version.to_string()),
        "DefaultAPIVersion": ApiVersion::CURRENT.to_string(),
        "GitCommit": option_env!("BERTH_GIT_COMMIT"),
        "Os": std::env::consts::OS,
        "Arch": arch,
        "BuildTime": option_env!("BERTH_BUILD_TIME"),
        "Context": cx.globals().context_name(cx.config()),
    })
}
