//! DNS messages, as far as a forwarder reads them: the question, and the answers of our own.
//!
//! Follows RFC 1035, section 4, and RFC 6891 for the size a client can take. Whatever is not understood here is not an
//! error: it is somebody else's to answer, and goes on as it came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of a header.
pub(crate) const HEADER: usize = 12;
/// What a client can take by UDP that does not say.
pub(crate) const PLAIN_UDP: usize = 512;
/// What we can take by UDP; no larger than what passes every network whole (RFC 9715).
const OUR_UDP: u16 = 1232;
/// How long our answers may be kept, in seconds. Docker's figure.
const TTL: u32 = 600;
/// The class of the Internet.
const INTERNET: u16 = 1;
/// The pseudo-record of EDNS.
const OPT: u16 = 41;
/// The beginning of a zone, whose last number says how long its silence may be kept.
const SOA: u16 = 6;

const RESPONSE: u8 = 0x80;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RCODE: u8 = 0x0f;
const SERVER_FAILURE: u8 = 2;

/// What is asked for, as far as we have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Everything.
    Any,
    /// Something we never have.
    Other,
}

/// A name in lower case, its labels joined by dots, without one at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    bytes: [u8; 255],
    length: usize,
}

impl Name {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A question somebody asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    bytes: &'a [u8],
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    question_end: usize,
    udp_size: Option<u16>,
}

impl<'a> Query<'a> {
    /// Reads a query that we may answer: one plain question of the Internet class.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Query<'a>> {
        let header = bytes.get(..HEADER)?;
        if header[2] & (RESPONSE | OPCODE) != 0 || header[4..10] != [0, 1, 0, 0, 0, 0] {
            return None;
        }
        let (name, end) = read_name(bytes)?;
        let (kind, class) = (u16_at(bytes, end)?, u16_at(bytes, end + 2)?);
        if class != INTERNET {
            return None;
        }
        let kind = match kind {
            1 => Kind::A,
            28 => Kind::Aaaa,
            12 => Kind::Ptr,
            255 => Kind::Any,
            _ => Kind::Other,
        };
        let question_end = end + 4;
        Some(Query { bytes, name, kind, question_end, udp_size: edns_size(bytes, question_end, header[11]) })
    }

    /// How large an answer by UDP may be.
    pub(crate) fn udp_limit(&self) -> usize {
        self.udp_size.map_or(PLAIN_UDP, |size| usize::from(size).max(PLAIN_UDP))
    }

    /// Begins an answer.
    pub(crate) fn answer(&self) -> Answer {
        let mut bytes = Vec::with_capacity(self.question_end + 64);
        bytes.extend_from_slice(&self.bytes[..self.question_end]);
        bytes[2] = RESPONSE | AUTHORITATIVE | (self.bytes[2] & RECURSION_DESIRED);
        bytes[3] = RECURSION_AVAILABLE;
        bytes[6..HEADER].fill(0);
        Answer { bytes, records: 0, edns: self.udp_size.is_some() }
    }
}

/// An answer of ours in the making.
#[derive(Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    records: u16,
    edns: bool,
}

impl Answer {
    /// Adds an address.
    pub(crate) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.record(1, &address.octets()),
            IpAddr::V6(address) => self.record(28, &address.octets()),
        }
    }

    /// Adds a name. One that cannot be written as a DNS name is left out.
    pub(crate) fn pointer(&mut self, name: &str) {
        let mut data = Vec::with_capacity(name.len() + 2);
        for label in name.split('.').filter(|label| !label.is_empty()) {
            let Ok(length @ 1..=63) = u8::try_from(label.len()) else { return };
            data.push(length);
            data.extend_from_slice(label.as_bytes());
        }
        data.push(0);
        if data.len() <= 255 {
            self.record(12, &data);
        }
    }

    fn record(&mut self, kind: u16, data: &[u8]) {
        // The name is the question's, which begins right after the header.
        self.bytes.extend_from_slice(&[0xc0, HEADER as u8]);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&INTERNET.to_be_bytes());
        self.bytes.extend_from_slice(&TTL.to_be_bytes());
        self.bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
        self.records += 1;
    }

    /// The bytes; what does not fit into `limit` is left out, and the answer says so.
    pub(crate) fn finish(mut self, limit: usize) -> Vec<u8> {
        let room = limit - if self.edns { 11 } else { 0 };
        if self.bytes.len() > room {
            self.shorten(room);
        }
        self.bytes[6..8].copy_from_slice(&self.records.to_be_bytes());
        if self.edns {
            let [high, low] = OUR_UDP.to_be_bytes();
            self.bytes.extend_from_slice(&[0, 0, OPT as u8, high, low, 0, 0, 0, 0, 0, 0]);
            self.bytes[11] = 1;
        }
        self.bytes
    }

    fn shorten(&mut self, room: usize) {
        let mut end = skip_name(&self.bytes, HEADER).map_or(HEADER, |end| end + 4);
        self.records = 0;
        while let Some(next) = record_end(&self.bytes, end).filter(|next| *next <= room) {
            end = next;
            self.records += 1;
        }
        self.bytes.truncate(end);
        self.bytes[2] |= TRUNCATED;
    }
}

/// The answer to any query that has a header when nobody could be asked, or nobody answered. What follows the question
/// is left out.
pub(crate) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let header = query.get(..HEADER)?;
    let end = question_end(query);
    let mut bytes = query[..end.unwrap_or(HEADER)].to_vec();
    bytes[2] = RESPONSE | (header[2] & (OPCODE | RECURSION_DESIRED));
    bytes[3] = RECURSION_AVAILABLE | SERVER_FAILURE;
    bytes[4..HEADER].fill(0);
    if end.is_some() {
        bytes[5] = 1;
    }
    Some(bytes)
}

/// Where the only question of a message ends. Its name may point to somewhere, though nothing stands before it.
pub(crate) fn question_end(bytes: &[u8]) -> Option<usize> {
    let one = bytes.get(4..6)? == [0, 1];
    let end = if one { skip_name(bytes, HEADER)? + 4 } else { return None };
    (end <= bytes.len()).then_some(end)
}

/// Whether these bytes may be a query: whatever is in it, it has a header and is no answer.
pub(crate) fn may_be_query(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && bytes[2] & RESPONSE == 0
}

/// Whether an answer belongs to a query that was sent under this id. A question in it must be the query's.
pub(crate) fn answers(response: &[u8], query: &[u8], id: u16) -> bool {
    if response.len() < HEADER || response[2] & RESPONSE == 0 || response[..2] != id.to_be_bytes() {
        return false;
    }
    let question = |bytes: &[u8]| question_end(bytes).map(|end| bytes[HEADER..end].to_ascii_lowercase());
    // Some servers leave the question out when they refuse; the id and the port have to do then.
    response[4..6] == [0, 0] || question(response) == question(query)
}

/// Whether a server's answer settles the matter: yes, or there is no such name. Anything else another server may know.
pub(crate) fn settles(response: &[u8]) -> bool {
    matches!(response[3] & RCODE, 0 | 3)
}

/// Whether an answer was cut to fit into a datagram.
pub(crate) fn is_truncated(response: &[u8]) -> bool {
    response[2] & TRUNCATED != 0
}

/// Where in an answer the times stand that it may be kept, and how long all of it may be, in seconds.
///
/// `None` for what is not to be kept: failures, cut answers, silence of which no zone says how long it lasts, and what
/// cannot be read to its end.
pub(crate) fn lifetime(response: &[u8]) -> Option<(u32, Vec<u16>)> {
    if is_truncated(response) || !settles(response) {
        return None;
    }
    let mut place = question_end(response)?;
    let answers = u16_at(response, 6)?;
    let total = answers.checked_add(u16_at(response, 8)?)?.checked_add(u16_at(response, 10)?)?;
    let (mut shortest, mut places) = (None::<u32>, Vec::new());
    let mut silence = None;
    for _ in 0..total {
        let fixed = skip_name(response, place)?;
        let (kind, end) = (u16_at(response, fixed)?, record_end(response, place)?);
        if kind != OPT {
            let ttl = u32_at(response, fixed + 4)?;
            shortest = Some(shortest.map_or(ttl, |shortest| shortest.min(ttl)));
            places.push(u16::try_from(fixed + 4).ok()?);
            if kind == SOA {
                silence = Some(u32_at(response, end.checked_sub(4)?)?);
            }
        }
        place = end;
    }
    let positive = answers > 0 && response[3] & RCODE == 0;
    // RFC 2308, section 5: without the zone's word a denial is not kept.
    let shortest = if positive { shortest? } else { shortest?.min(silence?) };
    (place == response.len()).then_some((shortest, places))
}

/// Reads the address that a reverse name stands for (RFC 1035, section 3.5, and RFC 3596, section 2.5).
pub(crate) fn reverse_address(name: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(name).ok()?;
    if let Some(numbers) = text.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = numbers.split('.');
        for octet in octets.iter_mut().rev() {
            let part = parts.next()?;
            *octet = part.parse().ok().filter(|number: &u8| number.to_string() == part)?;
        }
        return parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    let mut nibbles = text.strip_suffix(".ip6.arpa")?.split('.');
    let mut address = 0u128;
    for place in 0..32 {
        let digit = nibbles.next().filter(|nibble| nibble.len() == 1)?;
        address |= u128::from(u8::from_str_radix(digit, 16).ok()?) << (4 * place);
    }
    nibbles.next().is_none().then_some(IpAddr::V6(Ipv6Addr::from(address)))
}

/// Reads the question's name; gives it and where it ends. A label with a dot in it is nobody's name here.
fn read_name(bytes: &[u8]) -> Option<(Name, usize)> {
    let mut name = Name { bytes: [0; 255], length: 0 };
    let mut place = HEADER;
    loop {
        let length = usize::from(*bytes.get(place)?);
        place += 1;
        match length {
            0 => return Some((name, place)),
            1..=63 => {}
            // A question has nothing before it that it could point to.
            _ => return None,
        }
        let label = bytes.get(place..place + length)?;
        let dot = usize::from(name.length > 0);
        let end = name.length + dot + length;
        if end > 253 || label.contains(&b'.') {
            return None;
        }
        if dot == 1 {
            name.bytes[name.length] = b'.';
        }
        for (to, from) in name.bytes[name.length + dot..end].iter_mut().zip(label) {
            *to = from.to_ascii_lowercase();
        }
        name.length = end;
        place += length;
    }
}

/// Where a name ends that begins at `place`; what it points to is not looked at.
fn skip_name(bytes: &[u8], mut place: usize) -> Option<usize> {
    loop {
        match *bytes.get(place)? {
            0 => return Some(place + 1),
            length @ 1..=63 => place += 1 + usize::from(length),
            0xc0.. => return (place + 2 <= bytes.len()).then_some(place + 2),
            _ => return None,
        }
    }
}

/// Where a record ends that begins at `place`.
fn record_end(bytes: &[u8], place: usize) -> Option<usize> {
    let fixed = skip_name(bytes, place)?;
    let end = fixed + 10 + usize::from(u16_at(bytes, fixed + 8)?);
    (end <= bytes.len()).then_some(end)
}

/// The size in an EDNS record, if that is among what follows the question.
fn edns_size(bytes: &[u8], mut place: usize, records: u8) -> Option<u16> {
    for _ in 0..records {
        let fixed = skip_name(bytes, place)?;
        if u16_at(bytes, fixed)? == OPT {
            return u16_at(bytes, fixed + 2);
        }
        place = record_end(bytes, place)?;
    }
    None
}

fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(place..place + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Edns, Message, OpCode, Query as Question, ResponseCode};
    use hickory_proto::rr::{Name as ProtoName, RData, Record, RecordType};
    use proptest::prelude::*;

    fn ask(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Question::query(ProtoName::from_ascii(name).unwrap(), kind));
        if let Some(size) = edns {
            let mut record = Edns::new();
            record.set_max_payload(size);
            message.set_edns(record);
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn a_question_is_read_in_lower_case() {
        let bytes = ask("Web.Front.", RecordType::AAAA, Some(1400));
        let query = Query::parse(&bytes).unwrap();
        assert_eq!(query.name.as_bytes(), b"web.front");
        assert_eq!((query.kind, query.udp_limit()), (Kind::Aaaa, 1400));
        assert_eq!(Query::parse(&ask("a.", RecordType::A, None)).unwrap().udp_limit(), 512);
        assert_eq!(Query::parse(&ask("a.", RecordType::MX, Some(100))).unwrap().udp_limit(), 512);
        assert_eq!(Query::parse(&ask(".", RecordType::NS, None)).unwrap().name.as_bytes(), b"");
    }

    #[test]
    fn an_answer_is_understood_by_others() {
        let bytes = ask("web.", RecordType::A, Some(1232));
        let query = Query::parse(&bytes).unwrap();
        let mut answer = query.answer();
        answer.address("10.0.0.2".parse().unwrap());
        answer.address("10.0.0.3".parse().unwrap());
        let message = Message::from_vec(&answer.finish(512)).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.metadata.authoritative && message.metadata.recursion_available);
        assert!(message.metadata.recursion_desired && message.edns.is_some());
        let addresses: Vec<_> = message.answers.iter().map(|record| (record.ttl, record.data.to_string())).collect();
        assert_eq!(addresses, [(600, "10.0.0.2".to_owned()), (600, "10.0.0.3".to_owned())]);
    }

    #[test]
    fn a_reverse_answer_names_container_and_network() {
        let bytes = ask("2.0.18.172.in-addr.arpa.", RecordType::PTR, None);
        let query = Query::parse(&bytes).unwrap();
        assert_eq!(reverse_address(query.name.as_bytes()), Some("172.18.0.2".parse().unwrap()));
        let mut answer = query.answer();
        answer.pointer("web.front");
        answer.pointer(&"x".repeat(64));
        let message = Message::from_vec(&answer.finish(512)).unwrap();
        assert_eq!(message.answers.len(), 1);
        assert_eq!(message.answers[0].data.to_string(), "web.front.");
    }

    #[test]
    fn addresses_are_read_from_reverse_names() {
        let v6 = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(reverse_address(v6.as_bytes()), Some("2001:db8::567:89ab".parse().unwrap()));
        for wrong in ["1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "01.2.3.4.in-addr.arpa", "a.b", "1.ip6.arpa"] {
            assert_eq!(reverse_address(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let bytes = ask("web.", RecordType::A, None);
        let mut answer = Query::parse(&bytes).unwrap().answer();
        (0..100).for_each(|number| answer.address(IpAddr::from([10, 0, 0, number])));
        let cut = answer.finish(512);
        assert!(cut.len() <= 512 && is_truncated(&cut));
        let message = Message::from_vec(&cut).unwrap();
        assert!(message.metadata.truncation && message.answers.len() > 25);
    }

    #[test]
    fn a_refusal_keeps_id_and_question() {
        let bytes = ask("nowhere.", RecordType::A, Some(1232));
        let message = Message::from_vec(&failure(&bytes).unwrap()).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(message.metadata.op_code, OpCode::Query);
        assert_eq!(message.queries[0].name().to_string(), "nowhere.");
        assert_eq!(message.metadata.id.to_be_bytes(), bytes[..2]);
        assert_eq!(failure(&bytes[..11]), None);
    }

    #[test]
    fn an_answer_must_fit_the_query() {
        let query = ask("a.example.", RecordType::A, None);
        let mut response = ask("A.EXAMPLE.", RecordType::A, None);
        response[2] |= RESPONSE;
        response[..2].copy_from_slice(&[1, 2]);
        assert!(answers(&response, &query, 0x0102));
        assert!(!answers(&response, &query, 0x0103));
        let mut other = ask("b.example.", RecordType::A, None);
        other[2] |= RESPONSE;
        other[..2].copy_from_slice(&[1, 2]);
        assert!(!answers(&other, &query, 0x0102));
        assert!(!answers(&query, &query, u16::from_be_bytes([query[0], query[1]])), "no answer at all");
    }

    #[test]
    fn an_answer_may_be_kept_as_long_as_its_shortest_record() {
        let query = ask("a.example.", RecordType::A, Some(1232));
        let mut message = Message::from_vec(&query).unwrap().into_response();
        let name = ProtoName::from_ascii("a.example.").unwrap();
        let address = |ttl| Record::from_rdata(name.clone(), ttl, RData::A("10.0.0.1".parse().unwrap()));
        message.add_answer(address(300)).add_answer(address(60));
        let bytes = message.to_vec().unwrap();
        let (ttl, places) = lifetime(&bytes).unwrap();
        assert_eq!((ttl, places.len()), (60, 2));
        assert_eq!(u32_at(&bytes, places[0].into()), Some(300));
        let mut denial = Message::from_vec(&query).unwrap().into_response();
        denial.metadata.response_code = ResponseCode::NXDomain;
        assert_eq!(lifetime(&denial.to_vec().unwrap()), None, "nobody says how long");
        let soa = hickory_proto::rr::rdata::SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 30);
        denial.add_authority(Record::from_rdata(name.clone(), 900, RData::SOA(soa)));
        assert_eq!(lifetime(&denial.to_vec().unwrap()).unwrap().0, 30);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Query::parse(&bytes);
            let _ = failure(&bytes);
            if bytes.len() >= HEADER {
                let _ = lifetime(&bytes);
                let _ = answers(&bytes, &bytes, 7);
            }
        }

        #[test]
        fn any_question_gets_an_answer_that_fits(
            name in "([a-z0-9][a-z0-9_]{0,62}\\.){1,3}", count in 0u8..200, edns in proptest::option::of(0u16..5000)
        ) {
            let bytes = ask(&name, RecordType::A, edns);
            let query = Query::parse(&bytes).unwrap();
            let mut answer = query.answer();
            (0..count).for_each(|number| answer.address(IpAddr::from([10, 0, 0, number])));
            let answer = answer.finish(query.udp_limit());
            prop_assert!(answer.len() <= query.udp_limit());
            let message = Message::from_vec(&answer).unwrap();
            prop_assert!(message.metadata.truncation || message.answers.len() == usize::from(count));
        }

        #[test]
        fn a_damaged_question_is_read_without_harm(place in 0usize..60, byte: u8) {
            let mut bytes = ask("web.front.example.", RecordType::A, Some(1232));
            let place = place % bytes.len();
            bytes[place] = byte;
            if let Some(query) = Query::parse(&bytes) {
                let _ = query.answer().finish(query.udp_limit());
            }
            let _ = failure(&bytes);
        }
    }
}
