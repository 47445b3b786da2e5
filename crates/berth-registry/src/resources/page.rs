//! A small web page for people: repositories, their tags, sizes and layers. Plain HTML, made here; nothing runs in the browser.

use std::fmt::Write as _;

use ::http::StatusCode;
use berth_model::{Digest, Timestamp};
use berth_oci::image::{Descriptor, Index, Manifest, media_type};
use berth_store::{ManifestRow, RepositoryId};

use crate::{
    auth::rules::Action,
    http::{query, response::Response},
    manifest::MAX_MANIFEST,
    names::{Reference, RepositoryName},
    refusal::Refusal,
    registry::Request,
    resources::{catalog, known},
};

/// Entries of one page.
const ENTRIES: usize = 200;
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b2733;background:#fff}\
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin-top:2rem}a{color:#0a58a8}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .75rem .35rem 0;border-bottom:1px solid #dde3e9;vertical-align:top}\
td.n,th.n{text-align:right;white-space:nowrap}code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}\
nav{color:#5b6b7a}p.none{color:#5b6b7a}\
@media(prefers-color-scheme:dark){body{background:#12181f;color:#dbe4ec}a{color:#7db8f0}th,td{border-color:#2b3742}}";

/// `GET /` and `GET /ui/NAME?ref=REFERENCE`.
pub fn get(request: Request<'_>, name: Option<&str>) -> Result<Response, Refusal> {
    let Some(name) = name else {
        if request.registry.gate.admit_known(request.head, request.peer, request.caller).is_err()
            && !request.registry.gate.rules.welcome_strangers()
        {
            return Ok(ask_for_password());
        }
        return repositories(request);
    };
    let Ok(name) = name.parse::<RepositoryName>() else { return Ok(missing()) };
    if request.may(&[Action::Pull], &name).is_err() {
        return Ok(ask_for_password());
    }
    let Ok(repository) = known(request, &name) else { return Ok(missing()) };
    match request.head.query.get("ref") {
        None => tags(request, &name, repository),
        Some(reference) => match reference.parse() {
            Ok(reference) => image(request, &name, repository, &reference),
            Err(_) => Ok(missing()),
        },
    }
}

/// Browsers cannot get tokens; they can ask for a password.
pub fn ask_for_password() -> Response {
    html(StatusCode::UNAUTHORIZED, "Login needed", "<p class=none>This registry asks for a name and a password.</p>")
        .with("WWW-Authenticate", "Basic realm=\"Berth registry\", charset=\"UTF-8\"")
}

fn missing() -> Response {
    html(
        StatusCode::NOT_FOUND,
        "Not found",
        "<p class=none>There is nothing of this name. <a href=\"/\">All repositories</a></p>",
    )
}

fn repositories(request: Request<'_>) -> Result<Response, Refusal> {
    let after = request.head.query.get("last").unwrap_or_default();
    let (names, is_more) = catalog::readable(request, after, ENTRIES)?;
    let mut body = String::new();
    if names.is_empty() {
        body.push_str("<p class=none>There are no repositories yet.</p>");
    } else {
        body.push_str("<table><tr><th>Repository<th class=n>Tags<th class=n>Size</tr>");
        for name in &names {
            let (tags, bytes) = request.registry.storage.read(|view| {
                let Some(repository) = view.repository(name)? else { return Ok((0, 0)) };
                let bytes = view.blobs(repository)?.iter().map(|blob| blob.size).sum();
                Ok((view.tags(repository, "", usize::MAX)?.len(), bytes))
            })?;
            let _ = write!(
                body,
                "<tr><td><a href=\"/ui/{0}\">{0}</a><td class=n>{tags}<td class=n>{1}</tr>",
                escape(name),
                size(bytes)
            );
        }
        body.push_str("</table>");
    }
    if let Some(last) = names.last().filter(|_| is_more) {
        let _ = write!(body, "<p><a href=\"/?last={}\">More</a></p>", query::encode(last));
    }
    Ok(html(StatusCode::OK, "Repositories", &body))
}

fn tags(request: Request<'_>, name: &RepositoryName, repository: RepositoryId) -> Result<Response, Refusal> {
    let after = request.head.query.get("last").unwrap_or_default();
    let storage = &request.registry.storage;
    let rows = storage.read(|view| view.tags(repository, after, ENTRIES + 1))?;
    let mut body = String::from("<nav><a href=\"/\">All repositories</a></nav>");
    if rows.is_empty() {
        body.push_str("<p class=none>It has no tags.</p>");
    } else {
        body.push_str("<table><tr><th>Tag<th>Digest<th class=n>Size<th>Set</tr>");
        for row in rows.iter().take(ENTRIES) {
            let total = match storage.read(|view| view.manifest(repository, &row.digest))? {
                Some(manifest) => total_size(request, repository, &manifest)?,
                None => 0,
            };
            let _ = write!(
                body,
                "<tr><td><a href=\"/ui/{name}?ref={tag}\">{tag}</a><td><code>{short}</code><td class=n>{size}<td>{time}</tr>",
                tag = escape(&row.tag),
                short = row.digest.short(),
                size = size(total),
                time = time(row.moved),
            );
        }
        body.push_str("</table>");
    }
    if let Some(last) = rows.get(ENTRIES - 1).filter(|_| rows.len() > ENTRIES) {
        let _ = write!(body, "<p><a href=\"/ui/{name}?last={}\">More</a></p>", query::encode(&last.tag));
    }
    Ok(html(StatusCode::OK, name.as_str(), &body))
}

fn image(
    request: Request<'_>,
    name: &RepositoryName,
    repository: RepositoryId,
    reference: &Reference,
) -> Result<Response, Refusal> {
    let row = request.registry.storage.read(|view| match reference {
        Reference::Tag(tag) => view.tagged(repository, tag.as_str()),
        Reference::Digest(digest) => view.manifest(repository, digest),
    })?;
    let Some(row) = row else { return Ok(missing()) };
    let mut body = format!("<nav><a href=\"/\">All repositories</a> / <a href=\"/ui/{name}\">{name}</a></nav>");
    let host = escape(&request.registry.gate.service(request.head));
    let _ =
        write!(body, "<p><code>berth pull {host}/{name}@{}</code></p><p>{}</p>", row.digest, escape(&row.media_type));
    let bytes = bytes_of(request, &row.digest);
    if media_type::is_index(&row.media_type) {
        let index: Option<Index> = serde_json::from_slice(&bytes).ok();
        list(&mut body, "Manifests", &index.map(|index| index.manifests).unwrap_or_default(), |entry| {
            let platform = entry.platform.as_ref().map(|platform| platform.target().to_string()).unwrap_or_default();
            format!(
                "<a href=\"/ui/{name}?ref={digest}\"><code>{digest}</code></a> {platform}",
                digest = entry.digest,
                platform = escape(&platform)
            )
        });
    } else if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
        let plain = |entry: &Descriptor| format!("<code>{}</code>", entry.digest);
        list(&mut body, "Configuration", std::slice::from_ref(&manifest.config), plain);
        list(&mut body, "Layers", &manifest.layers, plain);
    }
    let referrers = request.registry.storage.read(|view| view.referrers(repository, &row.digest, None, "", ENTRIES))?;
    if !referrers.is_empty() {
        body.push_str("<h2>About this image</h2><table>");
        for referrer in referrers {
            let kind = escape(referrer.artifact.as_deref().unwrap_or_default());
            let _ = write!(
                body,
                "<tr><td><a href=\"/ui/{name}?ref={0}\"><code>{0}</code></a><td>{kind}</tr>",
                referrer.digest
            );
        }
        body.push_str("</table>");
    }
    let separator = if matches!(reference, Reference::Tag(_)) { ":" } else { "@" };
    Ok(html(StatusCode::OK, &format!("{name}{separator}{reference}"), &body))
}

fn list(body: &mut String, title: &str, entries: &[Descriptor], show: impl Fn(&Descriptor) -> String) {
    let _ = write!(body, "<h2>{title}</h2><table><tr><th>Digest<th>Type<th class=n>Size</tr>");
    for entry in entries {
        let _ = write!(
            body,
            "<tr><td>{}<td>{}<td class=n>{}</tr>",
            show(entry),
            escape(&entry.media_type),
            size(entry.size)
        );
    }
    body.push_str("</table>");
}

/// Bytes of all that a manifest leads to; of an index, of all its images.
fn total_size(request: Request<'_>, repository: RepositoryId, row: &ManifestRow) -> Result<u64, Refusal> {
    let bytes = bytes_of(request, &row.digest);
    if media_type::is_index(&row.media_type) {
        let index: Option<Index> = serde_json::from_slice(&bytes).ok();
        let mut total = 0_u64;
        for entry in index.map(|index| index.manifests).unwrap_or_default() {
            let inner = request.registry.storage.read(|view| view.manifest(repository, &entry.digest))?;
            if let Some(inner) = inner.filter(|inner| media_type::is_manifest(&inner.media_type)) {
                total = total.saturating_add(total_size(request, repository, &inner)?);
            }
        }
        return Ok(total);
    }
    let manifest: Option<Manifest> = serde_json::from_slice(&bytes).ok();
    Ok(manifest.map_or(0, |manifest| {
        manifest.layers.iter().fold(manifest.config.size, |sum, layer| sum.saturating_add(layer.size))
    }))
}

/// A manifest's bytes; none if they are gone.
fn bytes_of(request: Request<'_>, digest: &Digest) -> Vec<u8> {
    let path = request.registry.storage.blobs.path(digest);
    std::fs::read(path).ok().filter(|bytes| bytes.len() <= MAX_MANIFEST).unwrap_or_default()
}

fn html(status: StatusCode, title: &str, body: &str) -> Response {
    let title = escape(title);
    let text = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}</html>\n"
    );
    Response::text(status, "text/html; charset=utf-8", text)
        .with("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
        .with("X-Content-Type-Options", "nosniff")
        .with("Referrer-Policy", "no-referrer")
}

/// What somebody pushed is text, never markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
    let mut number = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if number < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{number:.1} {unit}") };
        }
        number /= 1000.0;
    }
    format!("{number:.1} TB")
}

fn time(nanos: i64) -> String {
    Timestamp::from_nanos(nanos / 1_000_000_000 * 1_000_000_000).to_string().replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_never_markup() {
        assert_eq!(escape("<script>\"'&"), "&lt;script&gt;&quot;&#39;&amp;");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000_000, "2.0 GB"), (u64::MAX, "18446744.1 TB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
