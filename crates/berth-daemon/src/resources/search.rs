//! Looking for images in registries.

use std::sync::Arc;

use berth_model::Cancel;
use serde::Serialize;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::filters::Filters;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::registry;

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("GET" "/images/search", "ImageSearch", search)];

const DEFAULT_LIMIT: i64 = 25;
const MAX_LIMIT: i64 = 100;

/// One image, as the API shows it.
#[derive(Serialize)]
struct Item {
    star_count: i64,
    is_official: bool,
    name: String,
    is_automated: bool,
    description: String,
}

async fn search(call: Call) -> Result<Reply, ApiError> {
    let limit = call.query.integer("limit").map_err(|error| error.context("invalid limit specified"))?;
    let limit = limit.filter(|limit| *limit != 0).unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid(format!("limit {limit} is outside the range of [1, {MAX_LIMIT}]")));
    }
    let filters = Filters::of(&call.query, &["is-automated", "is-official", "stars"])?;
    let (official, automated) = (filters.boolean("is-official")?, filters.boolean("is-automated")?);
    let stars = least_stars(&filters)?;
    let term = call.query.text("term").to_owned();
    let credentials = registry::credentials(&call);
    let daemon = Arc::clone(&call.daemon);
    let found = Daemon::blocking(move || {
        let limit = usize::try_from(limit).unwrap_or(1);
        let found = daemon.registries.search(&term, limit, &credentials, &Cancel::default());
        found.map_err(|error| super::image_transfer::not_fetched(&error))
    })
    .await?;
    let wanted = found.into_iter().filter(|one| {
        // Nothing is automated any more.
        automated != Some(true)
            && official.is_none_or(|official| one.is_official == official)
            && one.star_count >= stars
    });
    let items = wanted.map(|one| Item {
        star_count: one.star_count,
        is_official: one.is_official,
        name: one.name,
        is_automated: false,
        description: one.description,
    });
    Ok(Reply::json(&items.collect::<Vec<_>>()))
}

fn least_stars(filters: &Filters) -> Result<i64, ApiError> {
    let mut least = 0;
    for text in filters.values("stars") {
        let stars: i64 = text.parse().map_err(|_| ApiError::invalid(format!("invalid filter 'stars=[{text}]'")))?;
        least = least.max(stars);
    }
    Ok(least)
}
