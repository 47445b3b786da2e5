//! Search as `docker search HOST/WORD` asks for it: docker.io's index API, version 1.

use ::http::StatusCode;
use serde_json::{Value, json};

use crate::{http::response::Response, refusal::Refusal, registry::Request, resources::catalog};

/// Results of one page, as docker.io has it.
const DEFAULT_RESULTS: usize = 25;
const MAX_RESULTS: usize = 100;

/// `GET /v1/search?q=WORD&n=RESULTS&page=PAGE`.
pub fn get(request: Request<'_>) -> Result<Response, Refusal> {
    let query = &request.head.query;
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
    let word = query.get("q").unwrap_or_default();
    let limit = number("n").unwrap_or(DEFAULT_RESULTS).clamp(1, MAX_RESULTS);
    let page = number("page").unwrap_or(1).max(1);
    let (count, names) = request.registry.storage.read(|view| view.search(word, page - 1, limit))?;
    // What the caller may not read, he does not learn of.
    let results: Vec<Value> = names.iter().filter(|name| catalog::is_readable(request, name)).map(result).collect();
    Ok(Response::json(
        StatusCode::OK,
        &json!({
            "num_pages": count.div_ceil(limit as u64),
            "num_results": results.len(),
            "results": results,
            "page_size": limit,
            "query": word,
            "page": page,
        }),
    ))
}

fn result(name: &String) -> Value {
    json!({"name": name, "description": "", "star_count": 0, "is_official": false, "is_automated": false, "is_trusted": false})
}
