//! Telling a server something: a document is posted, and of the answer only the status counts.

use berth_model::Cancel;

use crate::{
    auth::Credentials,
    error::DistributionError,
    http::Body,
    registries::Registries,
    session::{Ask, refusal},
    url::Url,
};

impl Registries {
    /// Posts a document to a URL, with further headers. A server that is too busy is asked again after a while, as it wishes.
    ///
    /// # Errors
    /// [`DistributionError`] if the server cannot be reached, or answers with any status but 2xx.
    pub fn post(
        &self,
        url: &Url,
        headers: &[(&'static str, String)],
        document: &[u8],
        cancel: &Cancel,
    ) -> Result<(), DistributionError> {
        let session = self.session(&url.origin.authority(), Credentials::default())?;
        let ask = headers.iter().fold(Ask::new("POST", url.clone(), ""), |ask, (name, value)| ask.header(name, value));
        let response = session.send(ask.body(Body::Bytes(document)), cancel)?;
        if !matches!(response.status(), 200..=299) {
            return Err(refusal(response, "POST", url));
        }
        response.forget();
        Ok(())
    }
}
