//! Many short names in one piece of memory.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list of names that is an array of strings in JSON.
///
/// A system call filter has four hundred names, and is read and copied at every start of a container: one piece of memory costs less than
/// four hundred.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NameList {
    /// Each name with a zero byte behind it, which no name has.
    text: String,
}

const END: char = '\0';

impl NameList {
    /// The names in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.text.split_terminator(END)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl<T: AsRef<str>> FromIterator<T> for NameList {
    /// What follows a zero byte in a name is another name.
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut list = NameList::default();
        for name in names {
            list.text.push_str(name.as_ref());
            list.text.push(END);
        }
        list
    }
}

impl Serialize for NameList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for NameList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = NameList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<NameList, A::Error> {
        let mut list = NameList::default();
        while names.next_element_seed(Append(&mut list.text))?.is_some() {}
        Ok(list)
    }
}

struct Append<'a>(&'a mut String);

impl<'de> serde::de::DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        if name.contains(END) {
            return Err(E::custom("a name with a zero byte"));
        }
        self.0.push_str(name);
        self.0.push(END);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_array_of_strings() {
        for (json, names) in [("[]", vec![]), (r#"["read","wri\"te",""]"#, vec!["read", "wri\"te", ""])] {
            let list: NameList = serde_json::from_str(json).expect("a list");
            assert_eq!(list.iter().collect::<Vec<_>>(), names);
            assert_eq!(list.is_empty(), names.is_empty());
            assert_eq!(serde_json::to_string(&list).expect("JSON"), json);
            assert_eq!(names.iter().collect::<NameList>(), list);
        }
        for bad in ["{}", r#"["a",1]"#, r#"["a\u0000b"]"#, r#""a""#] {
            assert!(serde_json::from_str::<NameList>(bad).is_err(), "{bad}");
        }
    }
}
