//! A JSON object whose order counts: the networks of a new container become interfaces in the order in which they were written.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Keys and values in the order of the document. A key that comes again takes the place of the former one, as in any map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered<T>(Vec<(String, T)>);

impl<T> Ordered<T> {
    /// Whether there is such a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.0.iter().any(|(own, _)| own == key)
    }

    /// Sets the value of a key: in its old place, else at the end.
    pub fn insert(&mut self, key: String, value: T) {
        match self.0.iter_mut().find(|(own, _)| *own == key) {
            Some((_, own)) => *own = value,
            None => self.0.push((key, value)),
        }
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<T> FromIterator<(String, T)> for Ordered<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(pairs: I) -> Self {
        let mut ordered = Ordered::default();
        pairs.into_iter().for_each(|(key, value)| ordered.insert(key, value));
        ordered
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered<T>, A::Error> {
                let mut ordered = Ordered::default();
                while let Some((key, value)) = map.next_entry()? {
                    ordered.insert(key, value);
                }
                Ok(ordered)
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_document_is_kept() {
        let text = r#"{"z":1,"a":2,"m":3,"z":4}"#;
        let ordered: Ordered<u8> = serde_json::from_str(text).expect("a map");
        assert_eq!(serde_json::to_string(&ordered).expect("text"), r#"{"z":4,"a":2,"m":3}"#);
        assert_eq!((ordered.len(), ordered.contains_key("m")), (3, true));
    }
}
