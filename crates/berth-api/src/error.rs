//! The body of every refused request, and the answer that is only an id.

use crate::wire::wire;

wire! {
    /// The id of what was made.
    pub struct IdResponse {
        /// Id.
        pub id: String,
    }
}

wire! { "camelCase";
    /// Why a request was refused.
    pub struct ErrorResponse {
        /// One line for the user.
        pub message: String,
    }
}
