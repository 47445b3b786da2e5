//! The tags of a repository. Section "Listing Tags".

use serde_json::json;

use crate::{
    auth::rules::Action,
    http::response::Response,
    names::RepositoryName,
    refusal::Refusal,
    registry::Request,
    resources::{known, paging::Page},
};

/// `GET /v2/NAME/tags/list`.
pub async fn get(request: Request<'_>, name: &RepositoryName) -> Result<Response, Refusal> {
    request.may(&[Action::Pull], name)?;
    let page = Page::of(&request.head.query)?;
    if let Some(proxy) = request.upstream {
        match proxy.tags(name).await {
            Ok(tags) => return Ok(of_upstream(name, &page, tags)),
            Err(error) => tracing::warn!(%error, upstream = proxy.domain(), "listing the tags that are here"),
        }
    }
    let repository = known(request, name)?;
    let storage = &request.registry.storage;
    let mut tags = storage.read(|view| view.tags(repository, &page.after, page.limit + 1))?;
    let is_more = tags.len() > page.limit;
    tags.truncate(page.limit);
    let names: Vec<&str> = tags.iter().map(|row| row.tag.as_str()).collect();
    let last = names.last().copied().filter(|_| is_more);
    let document = json!({"name": name.as_str(), "tags": names});
    Ok(page.answer(&format!("/v2/{name}/tags/list"), last, "", &document))
}

/// A page of the tags that another registry has.
fn of_upstream(name: &RepositoryName, page: &Page, mut tags: Vec<String>) -> Response {
    tags.sort();
    tags.retain(|tag| *tag > page.after);
    let is_more = tags.len() > page.limit;
    tags.truncate(page.limit);
    let last = tags.last().map(String::as_str).filter(|_| is_more);
    page.answer(&format!("/v2/{name}/tags/list"), last, "", &json!({"name": name.as_str(), "tags": tags}))
}
