//! The elements of a JSON list, one at a time: a list of thousands needs the memory of one element beside its text.

use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _};
use serde_json::Error;

use crate::error::ClientError;

/// The elements of a list that was read as a whole, see [`super::response::Response::elements`].
#[derive(Debug)]
pub struct Elements<T> {
    request: String,
    text: Vec<u8>,
    at: usize,
    state: State,
    kind: PhantomData<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Inside,
    Ended,
}

impl<T: DeserializeOwned> Elements<T> {
    pub(crate) fn new(request: String, text: Vec<u8>) -> Self {
        Elements { request, text, at: 0, state: State::Before, kind: PhantomData }
    }

    fn step(&mut self) -> Result<Option<T>, Error> {
        match (self.state, self.take_mark()) {
            (State::Ended, _) => return Ok(None),
            // `null` is how an empty list of Go reads.
            (State::Before, Some(b'n')) => {
                self.state = State::Ended;
                return serde_json::from_slice::<()>(&self.text).map(|()| None);
            }
            (State::Before, Some(b'[')) => {
                self.state = State::Inside;
                if self.peek() == Some(b']') {
                    self.at += 1;
                    return self.end();
                }
            }
            (State::Inside, Some(b',')) => {}
            (State::Inside, Some(b']')) => return self.end(),
            (_, Some(other)) => return Err(Error::custom(format!("unexpected {:?} in a list", char::from(other)))),
            (_, None) => return Err(Error::custom("the list has no end")),
        }
        let mut values = serde_json::Deserializer::from_slice(&self.text[self.at..]).into_iter();
        let element = values.next().unwrap_or_else(|| Err(Error::custom("the list has no end")))?;
        self.at += values.byte_offset();
        Ok(Some(element))
    }

    fn end(&mut self) -> Result<Option<T>, Error> {
        self.state = State::Ended;
        match self.peek() {
            None => Ok(None),
            Some(other) => Err(Error::custom(format!("unexpected {:?} behind a list", char::from(other)))),
        }
    }

    fn take_mark(&mut self) -> Option<u8> {
        let mark = self.peek()?;
        self.at += 1;
        Some(mark)
    }

    /// The next byte that is not blank.
    fn peek(&mut self) -> Option<u8> {
        self.at += self.text[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.get(self.at).copied()
    }
}

impl<T: DeserializeOwned> Iterator for Elements<T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(element) => element.map(Ok),
            Err(source) => {
                self.state = State::Ended;
                Some(Err(ClientError::Document { request: self.request.clone(), source }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Vec<u8>>, String> {
        let elements = Elements::new("GET /".to_owned(), text.as_bytes().to_vec());
        elements.map(|element| element.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn elements_come_in_order_whatever_the_blanks() {
        assert_eq!(read("[]\n"), Ok(vec![]));
        assert_eq!(read(" [ ] "), Ok(vec![]));
        assert_eq!(read("null\n"), Ok(vec![]));
        assert_eq!(read("[[1],[2,3]]\n"), Ok(vec![vec![1], vec![2, 3]]));
        assert_eq!(read(" [ [1] ,\n[] ] "), Ok(vec![vec![1], vec![]]));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for text in ["", "[", "[[1]", "[[1],", "[[1][2]]", "{}", "[[1]] x", "[\"a\"]", "nul", "[,[1]]", "[[1],]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
