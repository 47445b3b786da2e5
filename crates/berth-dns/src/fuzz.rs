//! Ways in for the fuzz targets of `fuzz/`.

use std::{net::IpAddr, time::Instant};

use crate::{
    cache::{Cache, Key},
    host, message,
    message::Query,
};

/// Answers a query of our own knowledge, or as a forwarder: a server's answer is checked, kept, and given once more.
///
/// # Panics
/// If an answer breaks a rule of the protocol.
pub fn exchange(query: &[u8], response: &[u8]) {
    if !message::may_be_query(query) {
        return;
    }
    if let Some(question) = Query::parse(query) {
        let limit = question.udp_limit();
        let mut answer = question.answer();
        if let Some(address) = message::reverse_address(question.name.as_bytes()) {
            answer.address(address);
        }
        answer.pointer(&String::from_utf8_lossy(question.name.as_bytes()));
        (0..40).for_each(|_| answer.address(IpAddr::from([0; 16])));
        let answer = answer.finish(limit);
        assert!(answer.len() <= limit, "an answer of {} bytes for a client that takes {limit}", answer.len());
        assert!(
            message::answers(&answer, query, u16::from_be_bytes([query[0], query[1]])),
            "an answer to another question"
        );
    }
    let failure = message::failure(query).expect("it has a header");
    assert!(failure.len() <= query.len());
    if response.len() < message::HEADER
        || !message::answers(response, query, u16::from_be_bytes([response[0], response[1]]))
    {
        return;
    }
    let (mut cache, key, now) = (Cache::default(), Key::of(query, 0), Instant::now());
    cache.put(&key, response, now);
    if let Some(kept) = cache.get(&key, query, now) {
        assert_eq!(kept.len(), response.len());
        assert_eq!(kept[..2], query[..2]);
    }
}

/// Reads a resolv.conf.
pub fn resolv_conf(text: &str) {
    let servers = host::parse(text);
    assert!(servers.iter().all(|server| !server.to_string().is_empty()));
}
