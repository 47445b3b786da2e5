//! Pages of lists: `n`, `last`, and the link to the next one. Section "Listing Tags".

use ::http::StatusCode;
use serde::Serialize;

use crate::{
    http::{query, query::Query, response::Response},
    refusal::{Code, Refusal},
};

/// Entries of one page where the client names no number, or a larger one.
const MAX_PAGE: usize = 10_000;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many entries.
    pub limit: usize,
    /// Those after this one.
    pub after: String,
}

impl Page {
    /// Reads `n` and `last`.
    ///
    /// # Errors
    /// `PAGINATION_NUMBER_INVALID`.
    pub fn of(query: &Query) -> Result<Self, Refusal> {
        let limit = match query.get("n") {
            None => MAX_PAGE,
            Some(text) => {
                let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                if !is_number {
                    let shown: String = text.chars().take(32).collect();
                    let message = format!("invalid number of results requested: {shown:?}");
                    return Err(Refusal::new(Code::PaginationNumberInvalid, message));
                }
                text.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE)
            }
        };
        Ok(Self { limit, after: query.get("last").unwrap_or_default().to_owned() })
    }

    /// The answer, with a link if there are more entries after `last`.
    pub fn answer(&self, path: &str, last: Option<&str>, extra: &str, document: &impl Serialize) -> Response {
        let response = Response::json(StatusCode::OK, document);
        match last {
            None => response,
            Some(last) => {
                let link = format!("<{path}?n={}&last={}{extra}>; rel=\"next\"", self.limit, query::encode(last));
                response.with("Link", link)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_results_are_checked() {
        let limit = |text: &str| Page::of(&Query::parse(text)).map(|page| page.limit).ok();
        assert_eq!((limit(""), limit("n=0"), limit("n=7")), (Some(MAX_PAGE), Some(0), Some(7)));
        assert_eq!(limit("n=99999999999999999999999"), Some(MAX_PAGE));
        for bad in ["n=-1", "n=", "n=x", "n=+1"] {
            assert_eq!(limit(&bad.replace('+', "%2B")), None, "{bad}");
        }
    }
}
