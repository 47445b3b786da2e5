//! ttrpc: small remote calls over a stream socket, as containerd and its shims speak it. No I/O in here.
//!
//! A message is a header of ten bytes and a body: [`Request`] from the client, [`Response`] from the server, or data of
//! a stream. [`Decoder`] cuts received bytes into [`Frame`]s, [`encode`] makes them, [`Server`] knows the rules for the
//! serving side. The serving side here has unary methods only; a client that opens a stream of data to one is answered
//! and the data it still sends is passed over.

mod frame;
mod server;

pub use frame::{Decoder, FLAG_NO_DATA, FLAG_REMOTE_CLOSED, FLAG_REMOTE_OPEN, Frame, Header, Kind, encode};
pub use server::{Call, Server};

/// Bytes of a header.
pub const HEADER_LEN: usize = 10;

/// Most bytes of one message body: four MiB.
pub const MAX_MESSAGE: usize = 4 << 20;

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Full name of the service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Name of the method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The encoded argument.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long the caller waits, in nanoseconds; 0 means for ever.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// Names with values; a name may occur again.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// One item of a call's metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Name, lower case by convention.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The answer to a call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// Absent or with code 0 when the call succeeded.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The encoded result.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// How a call ended: `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// A [`Code`] as number.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// One line for a person.
    #[prost(string, tag = "2")]
    pub message: String,
    /// More for a program.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

impl Status {
    /// A failure with its code and one line of text.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into(), details: Vec::new() }
    }

    /// The code; numbers nobody knows are [`Code::Unknown`].
    #[must_use]
    pub fn code(&self) -> Code {
        Code::try_from(self.code).unwrap_or(Code::Unknown)
    }
}

/// The codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// No failure.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Nothing more is known.
    Unknown = 2,
    /// The argument can never be right.
    InvalidArgument = 3,
    /// Too late.
    DeadlineExceeded = 4,
    /// No such thing.
    NotFound = 5,
    /// There is one already.
    AlreadyExists = 6,
    /// Not for this caller.
    PermissionDenied = 7,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// Not in the present state.
    FailedPrecondition = 9,
    /// Something else came between.
    Aborted = 10,
    /// Beyond the end.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// A fault of the server.
    Internal = 13,
    /// Not now.
    Unavailable = 14,
    /// Data is gone for good.
    DataLoss = 15,
    /// Not known who the caller is.
    Unauthenticated = 16,
}
