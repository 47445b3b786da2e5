//! What is said about images: how they were built, what is in them.

use berth_api::image::AttestationStatement;
use berth_image::{Attestation, AttestationQuery};

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::translate::image;

pub static ENDPOINTS: &[Endpoint] =
    &[endpoint!("GET" "/images/{name}/attestations", "ImageAttestations", attestations)];

async fn attestations(call: Call) -> Result<Reply, ApiError> {
    let mut platforms = image::platforms(call.query.all("platform"))?.into_iter();
    let query = AttestationQuery {
        platform: platforms.next(),
        predicates: call.query.all("type").filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
        statements: call.query.flag("statement"),
    };
    if platforms.next().is_some() {
        return Err(ApiError::invalid("only one platform can be asked for at a time"));
    }
    let (engine, name) = (call.daemon.engine.clone(), call.object.clone());
    let found = Daemon::blocking(move || Ok(engine.images().attestations(&name, &query)?)).await?;
    let shown = found.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    Ok(Reply::json(&shown))
}

fn shown(attestation: Attestation) -> Result<AttestationStatement, ApiError> {
    let digest = attestation.descriptor.digest.to_string();
    let read = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| ApiError::internal(format!("statement {digest}: {error}")))
    };
    Ok(AttestationStatement {
        descriptor: image::descriptor(&attestation.descriptor),
        predicate_type: attestation.predicate,
        statement: attestation.statement.map(read).transpose()?,
    })
}
