//! The list of repositories, as older clients ask for it: those that the caller may read.

use serde_json::json;

use crate::{
    auth::{Caller, rules::Action, scope::Access},
    http::response::Response,
    names::RepositoryName,
    refusal::Refusal,
    registry::Request,
    resources::paging::Page,
};

/// `GET /v2/_catalog`.
pub fn get(request: Request<'_>) -> Result<Response, Refusal> {
    request.registry.gate.admit_known(request.head, request.peer, request.caller)?;
    let page = Page::of(&request.head.query)?;
    let (names, is_more) = readable(request, &page.after, page.limit)?;
    let last = names.last().map(String::as_str).filter(|_| is_more);
    let document = json!({"repositories": names});
    Ok(page.answer("/v2/_catalog", last, "", &document))
}

/// Repositories after a name that the caller may read, and whether there are more.
pub fn readable(request: Request<'_>, after: &str, limit: usize) -> Result<(Vec<String>, bool), Refusal> {
    let mut names = Vec::new();
    let mut after = after.to_owned();
    loop {
        let wanted = limit - names.len() + 1;
        let rows = request.registry.storage.read(|view| view.repositories(&after, wanted))?;
        let is_end = rows.len() < wanted;
        for row in rows {
            after.clone_from(&row.name);
            if is_readable(request, &row.name) {
                if names.len() == limit {
                    return Ok((names, true));
                }
                names.push(row.name);
            }
        }
        if is_end {
            return Ok((names, false));
        }
    }
}

/// Whether the caller may know of a repository.
pub fn is_readable(request: Request<'_>, name: &str) -> bool {
    let Ok(name) = name.parse::<RepositoryName>() else { return false };
    let gate = &request.registry.gate;
    match request.caller {
        // A token for the catalog names no repositories; what its owner may read is what the rules say.
        Caller::Token { user, access } if access.iter().any(Access::allows_catalog) => {
            gate.rules.allow(user.as_deref(), &name, Action::Pull)
        }
        caller => gate.allows(caller, &name, Action::Pull),
    }
}
