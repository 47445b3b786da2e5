//! Registries: `berth login` and `berth logout`.

pub mod login;
pub mod logout;
pub mod search;
