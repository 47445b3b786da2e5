//! Images made of containers.

use berth_engine::CommitRequest;
use berth_image::image_name;
use berth_oci::image::ContainerConfig;
use http::StatusCode;
use serde::Serialize;

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::containers::named;
use crate::resources::images::publish;

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("POST" "/commit", "ImageCommit", commit)];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Committed {
    id: String,
}

async fn commit(mut call: Call) -> Result<Reply, ApiError> {
    // The words of an image's configuration are those of the API; what an image cannot keep is passed over.
    let config =
        call.document::<ContainerConfig>()?.map(|config| ContainerConfig { other: Default::default(), ..config });
    let query = &call.query;
    let reference = match query.text("repo") {
        "" => None,
        repo => Some(image_name(repo, query.text("tag"))?),
    };
    let request = CommitRequest {
        reference: reference.clone(),
        author: query.text("author").to_owned(),
        comment: query.text("comment").to_owned(),
        config,
        changes: query.all("changes").map(str::to_owned).collect(),
        pause: query.flag_or("pause", true),
    };
    let id = named(&call.daemon, query.text("container"))?.id.clone();
    let image = call.daemon.engine.commit(&id, request).await?;
    if let Some(reference) = &reference {
        publish(&call.daemon.engine, "tag", &image, &reference.familiar());
    }
    Ok(Reply::json_with(StatusCode::CREATED, &Committed { id: image.to_string() }))
}
