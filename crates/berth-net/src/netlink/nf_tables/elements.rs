//! Maps, and the elements of maps: keys and values of a few bytes, added and deleted by the thousand.

use super::{CREATE, DELETE_ELEMENTS, DataType, ELEMENT_ROOM, Family, NEW_ELEMENTS, NEW_SET, Transaction};
use super::{joined_bytes, joined_number};
use crate::netlink::message::Message;

/// The longest key: protocol, IPv6 address, port, each filled up to 4 bytes.
const LONGEST: usize = 24;

/// `NFT_SET_INTERVAL`, `NFT_SET_MAP`, `NFT_SET_CONCAT`.
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const CONCATENATED: u32 = 0x80;

/// A map from keys of several fields to values of several fields.
#[derive(Clone, Debug)]
pub struct Map {
    /// The name, at most 255 bytes.
    pub name: &'static str,
    /// The fields of the key: at least two.
    pub key: &'static [DataType],
    /// The fields of the value.
    pub value: &'static [DataType],
    /// Whether each field of a key is a range.
    pub ranges: bool,
}

/// A key or a value, of several fields: no memory of its own is needed for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    bytes: [u8; LONGEST],
    length: u8,
}

impl Field {
    /// Nothing yet.
    pub fn new() -> Field {
        Field::default()
    }

    /// The same with one more field behind, which is filled up to 4 bytes.
    pub fn and(mut self, field: &[u8]) -> Field {
        let start = usize::from(self.length);
        self.bytes[start..start + field.len()].copy_from_slice(field);
        self.length = u8::try_from((start + field.len()).next_multiple_of(4)).expect("at most 24 bytes");
        self
    }

    /// The fields as the kernel has them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// A key and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key, or the first of a range.
    pub key: Field,
    /// The last key of a range.
    pub last: Option<Field>,
    /// The value; empty for an element of a set.
    pub value: Field,
}

impl Transaction {
    /// Makes a map. `id` tells the sets and maps of one transaction apart.
    pub fn add_map(&mut self, family: Family, table: &str, map: &Map, id: u32) {
        self.push("making a firewall map", NEW_SET, CREATE, family, |message| {
            let flags = MAP | CONCATENATED | if map.ranges { INTERVAL } else { 0 };
            message.text(1, table).text(2, map.name).number_be(3, flags);
            message.number_be(4, joined_number(map.key)).number_be(5, joined_bytes(map.key));
            message.number_be(6, joined_number(map.value)).number_be(7, joined_bytes(map.value));
            message.nest(9, |description| {
                description.nest(2, |fields| {
                    for field in map.key {
                        fields.nest(1, |length| _ = length.number_be(1, field.bytes));
                    }
                });
            });
            message.number_be(10, id);
        });
    }

    /// Adds elements to a map or a set. One that is there with another value makes the kernel refuse the transaction.
    pub fn add_mappings(&mut self, family: Family, table: &str, map: &str, elements: impl Iterator<Item = Element>) {
        self.mappings(NEW_ELEMENTS, CREATE, "adding published ports", (family, table, map), elements);
    }

    /// Deletes elements of a map or a set. One that is not there makes the kernel refuse the transaction.
    pub fn delete_mappings(&mut self, family: Family, table: &str, map: &str, elements: impl Iterator<Item = Element>) {
        self.mappings(DELETE_ELEMENTS, 0, "removing published ports", (family, table, map), elements);
    }

    fn mappings(
        &mut self,
        kind: u16,
        flags: u16,
        label: &'static str,
        (family, table, map): (Family, &str, &str),
        elements: impl Iterator<Item = Element>,
    ) {
        let mut rest = elements.peekable();
        while rest.peek().is_some() {
            self.push(label, kind, flags, family, |message| {
                message.text(1, table).text(2, map);
                message.nest(3, |list| {
                    let start = list.position();
                    while list.room_left(start) > ELEMENT_ROOM {
                        let Some(element) = rest.next() else { break };
                        write_element(list, &element, kind == NEW_ELEMENTS);
                    }
                });
            });
        }
    }
}

fn write_element(list: &mut Message<'_>, element: &Element, with_value: bool) {
    list.nest(1, |item| {
        item.nest(1, |data| _ = data.attribute(1, element.key.bytes()));
        if let Some(last) = &element.last {
            item.nest(10, |data| _ = data.attribute(1, last.bytes()));
        }
        if with_value && element.value.length > 0 {
            item.nest(2, |data| _ = data.attribute(1, element.value.bytes()));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_up_to_four_bytes() {
        let field = Field::new().and(&[6]).and(&[10, 0, 0, 1]).and(&80u16.to_be_bytes());
        assert_eq!(field.bytes(), [6, 0, 0, 0, 10, 0, 0, 1, 0, 80, 0, 0]);
        assert_eq!(Field::new().and(&[6]).and(&[1; 16]).and(&[0, 80]).bytes().len(), LONGEST);
    }
}
