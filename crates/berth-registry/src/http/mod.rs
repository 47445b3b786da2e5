//! HTTP/1.1 as far as a registry needs it.
//!
//! A registry's work is to move files to sockets. The general library wants every byte of an answer in memory first, which costs two
//! copies; here an answer is a list of bytes and file ranges, and ranges go out by sendfile(2). See `docs/design/registry.md`.

pub mod body;
pub mod connection;
pub mod head;
pub mod query;
pub mod range;
pub mod response;
pub mod transport;
