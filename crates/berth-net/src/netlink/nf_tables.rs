//! nf_tables: tables, chains, rules and sets, changed in transactions. See nft(8) for what they mean.
//!
//! A [`Transaction`] takes effect whole or not at all. Names of expressions and numbers of attributes are the kernel's
//! (`linux/netfilter/nf_tables.h`); `nft list ruleset` shows everything made here in its own words, because rules carry
//! comments and sets carry the types that program knows.

pub mod copying;
mod elements;
pub mod listing;

use super::message::{APPEND, Answer, Attributes, Batch, CREATE, Message};
use super::socket::{NetlinkError, Socket};

pub use elements::{Element, Field, Map};

/// The subsystem's number, the upper byte of each message type.
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;

const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;
const NEW_GENERATION: u16 = SUBSYSTEM | 15;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
/// The ruleset that a transaction is about: `NFNL_BATCH_GENID`.
const BATCH_GENERATION: u16 = 1;

/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`, `NFT_NAT_DNAT`.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_BY_DESTINATION: u32 = 2;
const NAT_DESTINATION: u32 = 1;
/// `NFT_PAYLOAD_CSUM_INET`.
const INTERNET_CHECKSUM: u32 = 1;

/// Length of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
/// A list of keys is split before it reaches what one attribute can hold, with room for the longest key.
const ELEMENT_ROOM: usize = 512;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    const fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Ip6 => 10,
        }
    }

    /// The word nft(8) uses.
    pub const fn word(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }

    const fn of(number: u8) -> Option<Family> {
        match number {
            1 => Some(Family::Inet),
            2 => Some(Family::Ip),
            10 => Some(Family::Ip6),
            _ => None,
        }
    }
}

/// Where in a packet's way through the kernel a chain is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The packet has just arrived.
    Prerouting = 0,
    /// The packet is for somebody else.
    Forward = 2,
    /// A process of the host has just sent the packet.
    Output = 3,
    /// Just before the packet leaves.
    Postrouting = 4,
}

/// What happens to a packet that no rule decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The packet is dropped.
    Drop = 0,
    /// The packet goes on.
    Accept = 1,
}

/// A chain that the kernel calls.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where it is called.
    pub hook: Hook,
    /// The order among chains of one hook, lower first.
    pub priority: i32,
}

/// A piece of a rule. They are evaluated in order; the first that does not match ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Loads a property of the packet into a register.
    Meta(Meta, Register),
    /// Loads bytes of the packet.
    Payload(Payload, Register),
    /// Loads what connection tracking knows.
    Ct(Ct, Register),
    /// Keeps only the bits of a mask, 4 or 16 bytes, in a register.
    Mask(Register, Vec<u8>),
    /// Goes on if the register equals the bytes.
    Equal(Register, Vec<u8>),
    /// Goes on if the register differs from the bytes.
    Differs(Register, Vec<u8>),
    /// Goes on if the register, as a key, is in a set.
    InSet(Register, &'static str),
    /// Ends as a map says of the register, as a key; goes on if it is not in there.
    VerdictOf(Register, &'static str),
    /// Goes on if the register, as a key, is in a map; the value is loaded into the other register.
    InMap(Register, &'static str, Register),
    /// Loads what the destination address is to this host: a `RTN_` number, in the host's byte order.
    DestinationType(Register),
    /// Loads these bytes.
    Load(Register, Vec<u8>),
    /// Writes a register into a field of the transport header, whose checksum is so many bytes into it.
    WritePort(Payload, Register, u32),
    /// Counts.
    Counter,
    /// Ends with a verdict.
    Verdict(Verdict),
    /// Changes the source address to that of the interface the packet leaves by.
    Masquerade,
    /// Changes the destination to the address in one register and, where another is named, the port in it.
    Redirect(Family, Register, Option<Register>),
}

/// A property of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// The name of the device it came by.
    InputName = 6,
    /// The name of the device it leaves by.
    OutputName = 7,
    /// IPv4 or IPv6, one byte.
    Protocol = 15,
    /// TCP, UDP, ..., one byte.
    Transport = 16,
}

/// Bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The source address of an IPv4 packet.
    Ipv4Source,
    /// The destination address of an IPv4 packet.
    Ipv4Destination,
    /// The source address of an IPv6 packet.
    Ipv6Source,
    /// The destination address of an IPv6 packet.
    Ipv6Destination,
    /// The port a packet comes from.
    SourcePort,
    /// The port a packet goes to.
    DestinationPort,
}

/// What connection tracking knows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ct {
    /// New, established, related, ...: bits.
    State = 0,
    /// What was done to the connection: bits.
    Status = 2,
}

/// `ct state established,related`.
pub const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// What [`Expression::DestinationType`] loads for an address of this host.
pub const TYPE_LOCAL: u32 = 2;
/// `ct status dnat`.
pub const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// A place of 4 bytes that expressions share; longer values take the following ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// The register of this number, 0 to 15.
    pub const fn new(number: u8) -> Register {
        assert!(number < 16, "there are 16 registers");
        Register(number)
    }

    fn number(self) -> u32 {
        // NFT_REG32_00: the numbering that addresses 4 bytes each.
        8 + u32::from(self.0)
    }
}

/// How a rule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet is dropped.
    Drop,
    /// This chain lets the packet go on.
    Accept,
    /// The rules of another chain come next, then the following one.
    Jump(&'static str),
    /// This chain has nothing more to say.
    Return,
}

/// A type of key or value, as nft(8) numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataType {
    number: u32,
    bytes: u32,
}

/// The name of a device, filled with zeros.
pub const DEVICE_NAME: DataType = DataType { number: 41, bytes: 16 };
/// An IPv4 address.
pub const IPV4_ADDRESS: DataType = DataType { number: 7, bytes: 4 };
/// An IPv6 address.
pub const IPV6_ADDRESS: DataType = DataType { number: 8, bytes: 16 };
/// The number of a transport protocol.
pub const TRANSPORT: DataType = DataType { number: 12, bytes: 1 };
/// A port, in network byte order.
pub const PORT: DataType = DataType { number: 13, bytes: 2 };

/// A set of keys. A key of several fields is matched whole; each field fills up 4 bytes.
#[derive(Clone, Debug)]
pub struct Set {
    /// The name, at most 255 bytes.
    pub name: &'static str,
    /// The fields of the key.
    pub key: &'static [DataType],
}

/// Changes that take effect together.
#[derive(Debug)]
pub struct Transaction {
    batch: Batch,
}

impl Default for Transaction {
    fn default() -> Transaction {
        Transaction::new()
    }
}

impl Transaction {
    /// An empty transaction.
    pub fn new() -> Transaction {
        let mut batch = Batch::new();
        batch.push("beginning a firewall transaction", BATCH_BEGIN, 0, batch_header);
        Transaction { batch }
    }

    /// An empty transaction that takes effect only if the ruleset is still that of this number. Else committing it fails as
    /// [`NetlinkError::is_outdated`] tells.
    pub fn only_at(generation: u32) -> Transaction {
        let mut batch = Batch::new();
        batch.push("beginning a firewall transaction", BATCH_BEGIN, 0, |message| {
            batch_header(message);
            message.number_be(BATCH_GENERATION, generation);
        });
        Transaction { batch }
    }

    /// Makes a table; one that is there stays.
    pub fn add_table(&mut self, family: Family, table: &str) {
        self.push("making the firewall table", NEW_TABLE, CREATE, family, |message| _ = message.text(1, table));
    }

    /// Deletes a table with everything in it.
    pub fn delete_table(&mut self, family: Family, table: &str) {
        self.push("deleting the firewall table", DELETE_TABLE, 0, family, |message| _ = message.text(1, table));
    }

    /// Makes a chain that rules can jump to, or with `base` one that the kernel calls; what no rule decides goes on.
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &str, base: Option<BaseChain>) {
        self.push("making a firewall chain", NEW_CHAIN, CREATE, family, |message| {
            message.text(1, table).text(3, chain);
            if let Some(base) = base {
                message.nest(4, |hook| {
                    hook.number_be(1, base.hook as u32).number_be(2, base.priority.cast_unsigned());
                });
                message.number_be(5, Policy::Accept as u32).text(7, base.kind);
            }
        });
    }

    /// Adds a rule at the end of a chain, with a comment that nft(8) shows.
    pub fn add_rule(&mut self, family: Family, table: &str, chain: &str, comment: &str, rule: &[Expression]) {
        self.rule(APPEND, family, table, chain, comment, rule);
    }

    /// Adds a rule at the front of a chain.
    pub fn insert_rule(&mut self, family: Family, table: &str, chain: &str, comment: &str, rule: &[Expression]) {
        self.rule(0, family, table, chain, comment, rule);
    }

    fn rule(&mut self, place: u16, family: Family, table: &str, chain: &str, comment: &str, rule: &[Expression]) {
        self.push("adding a firewall rule", NEW_RULE, CREATE | place, family, |message| {
            message.text(1, table).text(2, chain);
            message.nest(4, |list| rule.iter().for_each(|expression| write_expression(list, expression)));
            message.attribute(7, &comment_data(comment));
        });
    }

    /// Deletes the rule with this handle.
    pub fn delete_rule(&mut self, family: Family, table: &str, chain: &str, handle: u64) {
        self.push("deleting a firewall rule", DELETE_RULE, 0, family, |message| {
            message.text(1, table).text(2, chain).attribute(3, &handle.to_be_bytes());
        });
    }

    /// Makes a set. `id` tells the sets of one transaction apart.
    pub fn add_set(&mut self, family: Family, table: &str, set: &Set, id: u32) {
        self.push("making a firewall set", NEW_SET, CREATE, family, |message| {
            let flags = if set.key.len() > 1 { 0x80 } else { 0 };
            message.text(1, table).text(2, set.name).number_be(3, flags);
            message.number_be(4, joined_number(set.key)).number_be(5, joined_bytes(set.key));
            if set.key.len() > 1 {
                message.nest(9, |description| {
                    description.nest(2, |fields| {
                        for field in set.key {
                            fields.nest(1, |length| _ = length.number_be(1, field.bytes));
                        }
                    });
                });
            }
            message.number_be(10, id);
            if let [DEVICE_NAME] = set.key {
                // Only for nft(8), which would list the names backwards: the keys are in the host's byte order.
                let [a, b, c, d] = 1u32.to_ne_bytes();
                message.attribute(13, &[0, 4, a, b, c, d]);
            }
        });
    }

    /// Adds keys to a set; those that are there already stay.
    pub fn add_elements(&mut self, family: Family, table: &str, set: &str, keys: &[Vec<u8>]) {
        let mut rest = keys.iter().peekable();
        while rest.peek().is_some() {
            self.push("adding firewall elements", NEW_ELEMENTS, CREATE, family, |message| {
                message.text(1, table).text(2, set);
                message.nest(3, |list| {
                    let start = list.position();
                    while list.room_left(start) > ELEMENT_ROOM {
                        let Some(key) = rest.next() else { break };
                        list.nest(1, |item| _ = item.nest(1, |data| _ = data.attribute(1, key)));
                    }
                });
            });
        }
    }

    /// Hands the transaction to the kernel.
    ///
    /// # Errors
    /// The first thing the kernel objects to; nothing of the transaction is in force then.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        let last = self.batch.len() - 1;
        if last == 0 {
            return Ok(());
        }
        self.batch.push("committing a firewall transaction", BATCH_END, 0, batch_header);
        // Older kernels never acknowledge the end of a batch, so the last message within it is asked for; a refusal of
        // its first message is one of the whole, and nothing follows it.
        socket.exchange(self.batch, last, |position| position == 0)?;
        socket.count_commit();
        Ok(())
    }

    fn push(
        &mut self,
        label: &'static str,
        kind: u16,
        flags: u16,
        family: Family,
        body: impl FnOnce(&mut Message<'_>),
    ) {
        self.batch.push(label, kind, flags, |message| {
            message.header(&[family.number(), 0, 0, 0]);
            body(message);
        });
    }
}

/// The number of the ruleset as it is: each transaction makes another one, whoever commits it.
pub fn generation(socket: &mut Socket) -> Result<u32, NetlinkError> {
    let step = "asking for the number of the firewall's ruleset";
    let request = |message: &mut Message<'_>| _ = message.header(&[0; FAMILY_HEADER]);
    let read = |answer: &Answer<'_>| Attributes::after(FAMILY_HEADER, answer.body).number_be(1);
    Ok(socket.ask(step, GET_GENERATION, request, read)?.unwrap_or(0))
}

/// News of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// Something in this table changed.
    Table(&'a str),
    /// That was all of one transaction, which came by the socket with this number.
    Committed(u32),
}

/// Reads news of nf_tables.
pub fn news<'a>(message: &Answer<'a>) -> Option<News<'a>> {
    if message.kind >> 8 != SUBSYSTEM >> 8 {
        return None;
    }
    match message.kind {
        NEW_GENERATION => Some(News::Committed(message.port)),
        // In every other message the first attribute names the table.
        _ => Attributes::after(FAMILY_HEADER, message.body).text(1).map(News::Table),
    }
}

/// A chain as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedChain {
    /// The family of its table.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where the kernel calls it, and what happens to packets that none of its rules decides on.
    pub base: Option<(u32, Policy)>,
}

impl ListedChain {
    /// Whether what no rule decides on is dropped; `None` for a chain that the kernel does not call.
    pub fn drops_by_policy(&self) -> Option<bool> {
        self.base.map(|(_, policy)| policy == Policy::Drop)
    }
}

/// A rule as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRule {
    /// Its number in its table.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
}

/// Every chain of the IPv4, IPv6 and common tables.
pub fn chains(socket: &mut Socket) -> Result<Vec<ListedChain>, NetlinkError> {
    socket.dump("listing firewall chains", GET_CHAIN, |message| _ = message.header(&[0; FAMILY_HEADER]), listed_chain)
}

/// The rules of a chain.
pub fn rules(socket: &mut Socket, family: Family, table: &str, chain: &str) -> Result<Vec<ListedRule>, NetlinkError> {
    let request = |message: &mut Message<'_>| {
        message.header(&[family.number(), 0, 0, 0]).text(1, table).text(2, chain);
    };
    socket.dump("listing firewall rules", GET_RULE, request, |answer| {
        let attributes = Attributes::after(FAMILY_HEADER, answer.body);
        // Kernels before 5.13 list more than was asked for.
        if attributes.text(1) != Some(table) || attributes.text(2) != Some(chain) {
            return None;
        }
        let comment = attributes.get(7).and_then(read_comment);
        Some(ListedRule { handle: attributes.long_be(3)?, comment })
    })
}

/// Reads an answer to any question.
#[cfg(feature = "fuzz")]
pub fn read_in_every_way(answer: &Answer<'_>) {
    let _ = (listed_chain(answer), read_comment(answer.body));
}

fn listed_chain(answer: &Answer<'_>) -> Option<ListedChain> {
    let attributes = Attributes::after(FAMILY_HEADER, answer.body);
    let base = attributes.nested(4).number_be(1).map(|hook| {
        let policy = if attributes.number_be(5) == Some(0) { Policy::Drop } else { Policy::Accept };
        (hook, policy)
    });
    Some(ListedChain {
        family: Family::of(*answer.body.first()?)?,
        table: attributes.text(1)?.to_owned(),
        name: attributes.text(3)?.to_owned(),
        base,
    })
}

fn batch_header(message: &mut Message<'_>) {
    // The resource of a batch is the subsystem's number, in network byte order.
    message.header(&[0, 0, 0, 10]);
}

fn joined_number(fields: &[DataType]) -> u32 {
    fields.iter().fold(0, |joined, field| joined << 6 | field.number)
}

fn joined_bytes(fields: &[DataType]) -> u32 {
    match fields {
        [field] => field.bytes,
        fields => fields.iter().map(|field| field.bytes.next_multiple_of(4)).sum(),
    }
}

/// A comment, in the form that nft(8) gives to what it stores with a rule.
fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(120)];
    let mut data = vec![0, u8::try_from(text.len() + 1).expect("cut to 120 bytes")];
    data.extend_from_slice(text);
    data.push(0);
    data
}

fn read_comment(data: &[u8]) -> Option<String> {
    let [0, length, rest @ ..] = data else { return None };
    let text = rest.get(..usize::from(*length).checked_sub(1)?)?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

fn write_expression(list: &mut Message<'_>, expression: &Expression) {
    list.nest(1, |item| {
        item.text(1, name(expression));
        item.nest(2, |data| write_body(data, expression));
    });
}

fn name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Meta(..) => "meta",
        Expression::Payload(..) | Expression::WritePort(..) => "payload",
        Expression::Ct(..) => "ct",
        Expression::Mask(..) => "bitwise",
        Expression::Equal(..) | Expression::Differs(..) => "cmp",
        Expression::InSet(..) | Expression::InMap(..) | Expression::VerdictOf(..) => "lookup",
        Expression::DestinationType(..) => "fib",
        Expression::Verdict(_) | Expression::Load(..) => "immediate",
        Expression::Counter => "counter",
        Expression::Masquerade => "masq",
        Expression::Redirect(..) => "nat",
    }
}

fn write_body(data: &mut Message<'_>, expression: &Expression) {
    match expression {
        Expression::Meta(key, to) => _ = data.number_be(1, to.number()).number_be(2, *key as u32),
        Expression::Payload(field, to) => {
            let (base, offset, length) = place(*field);
            data.number_be(1, to.number()).number_be(2, base).number_be(3, offset).number_be(4, length);
        }
        Expression::Ct(key, to) => _ = data.number_be(1, to.number()).number_be(2, *key as u32),
        Expression::Mask(register, mask) => {
            let length = u32::try_from(mask.len()).expect("a register");
            data.number_be(1, register.number()).number_be(2, register.number()).number_be(3, length);
            data.nest(4, |value| _ = value.attribute(1, mask));
            data.nest(5, |value| _ = value.attribute(1, &vec![0; mask.len()]));
        }
        Expression::Equal(register, value) => write_comparison(data, *register, 0, value),
        Expression::Differs(register, value) => write_comparison(data, *register, 1, value),
        Expression::InSet(register, set) => _ = data.text(1, set).number_be(2, register.number()),
        Expression::VerdictOf(key, map) => _ = data.text(1, map).number_be(2, key.number()).number_be(3, 0),
        Expression::InMap(key, map, value) => {
            data.text(1, map).number_be(2, key.number()).number_be(3, value.number());
        }
        Expression::DestinationType(to) => {
            data.number_be(1, to.number()).number_be(2, FIB_ADDRESS_TYPE).number_be(3, FIB_BY_DESTINATION);
        }
        Expression::Load(to, value) => _ = data.number_be(1, to.number()).nest(2, |data| _ = data.attribute(1, value)),
        Expression::WritePort(field, from, checksum) => {
            let (base, offset, length) = place(*field);
            data.number_be(2, base).number_be(3, offset).number_be(4, length).number_be(5, from.number());
            data.number_be(6, INTERNET_CHECKSUM).number_be(7, *checksum);
        }
        Expression::Counter => _ = data.attribute(1, &[0; 8]).attribute(2, &[0; 8]),
        Expression::Verdict(verdict) => write_verdict(data, *verdict),
        Expression::Masquerade => {}
        Expression::Redirect(family, address, port) => {
            data.number_be(1, NAT_DESTINATION).number_be(2, u32::from(family.number()));
            data.number_be(3, address.number());
            if let Some(port) = port {
                data.number_be(5, port.number());
            }
        }
    }
}

fn write_comparison(data: &mut Message<'_>, register: Register, operator: u32, value: &[u8]) {
    data.number_be(1, register.number()).number_be(2, operator).nest(3, |right| _ = right.attribute(1, value));
}

fn write_verdict(data: &mut Message<'_>, verdict: Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3i32, Some(chain)),
        Verdict::Return => (-5, None),
    };
    // Register 0 is the verdict.
    data.number_be(1, 0).nest(2, |value| {
        value.nest(2, |verdict| {
            verdict.number_be(1, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.text(2, chain);
            }
        });
    });
}

/// Header (1 is that of the network, 2 that of the transport), offset and length in bytes.
fn place(field: Payload) -> (u32, u32, u32) {
    match field {
        Payload::Ipv4Source => (1, 12, 4),
        Payload::Ipv4Destination => (1, 16, 4),
        Payload::Ipv6Source => (1, 8, 16),
        Payload::Ipv6Destination => (1, 24, 16),
        Payload::SourcePort => (2, 0, 2),
        Payload::DestinationPort => (2, 2, 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_comment_is_read_back() {
        assert_eq!(read_comment(&comment_data("berth: hello")).as_deref(), Some("berth: hello"));
        assert_eq!(read_comment(&comment_data(&"x".repeat(300))).map(|text| text.len()), Some(120));
        for broken in [&[][..], &[0], &[0, 9, b'x'], &[1, 2, b'x', 0], &[0, 0]] {
            assert_eq!(read_comment(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn ten_thousand_elements_are_split_into_messages_that_fit() {
        let keys: Vec<_> = (0u32..10_000).map(|n| n.to_be_bytes().repeat(4)).collect();
        let mut transaction = Transaction::new();
        transaction.add_elements(Family::Inet, "t", "m", &keys);
        let bytes = transaction.batch.sealed(1, 0).to_vec();
        let lists = super::super::message::Messages::of(&bytes)
            .skip(1)
            .map(|message| Attributes::after(FAMILY_HEADER, message.body).nested(3).count());
        let counts: Vec<_> = lists.collect();
        assert!(counts.len() > 3, "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 10_000);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = listed_chain(&Answer { kind: NEW_CHAIN, flags: 0, sequence: 1, port: 0, body: &body });
            let _ = read_comment(&body);
        }
    }
}
