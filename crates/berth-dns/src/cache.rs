//! Answers of others, kept for as long as they say, in a bounded piece of memory.
//!
//! The key is the query itself, byte for byte but for its id and the case of its name, and who was asked: so an answer
//! serves exactly those who would have got the same one.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::message::{self, HEADER};

/// How many bytes of keys and answers are kept.
const ROOM: usize = 1 << 20;
/// Nothing is kept for longer: upstream servers change their minds, too.
const LONGEST: u32 = 3600;
/// A denial is kept for less: what does not exist may be made any minute.
const LONGEST_DENIAL: u32 = 30;
/// What one entry costs besides its bytes.
const OVERHEAD: usize = 160;

/// Answers by query.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Rc<[u8]>, Entry>,
    /// The oldest first; what is at the front goes when room is needed.
    order: VecDeque<(Rc<[u8]>, Instant)>,
    size: usize,
}

#[derive(Debug)]
struct Entry {
    answer: Box<[u8]>,
    /// Where in it times stand.
    times: Box<[u16]>,
    since: Instant,
    until: Instant,
}

/// What an answer is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(Rc<[u8]>);

impl Key {
    /// The key of a query that goes to the servers of `whose`: a container's number, or 0 for those of the host.
    pub(crate) fn of(query: &[u8], whose: u32) -> Key {
        let mut key = query.to_ascii_lowercase();
        // Flags are no letters.
        key[2..HEADER].copy_from_slice(&query[2..HEADER]);
        key.drain(..2);
        key.extend_from_slice(&whose.to_ne_bytes());
        Key(key.into())
    }
}

impl Cache {
    /// The answer to a query, with its id, its spelling, and times that have gone on.
    pub(crate) fn get(&self, key: &Key, query: &[u8], now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(&key.0).filter(|entry| now < entry.until)?;
        let mut answer = entry.answer.to_vec();
        answer[..2].copy_from_slice(&query[..2]);
        // The question has the same length in both, whatever the case of its letters.
        let question = HEADER..message::question_end(&answer)?;
        answer.get_mut(question.clone())?.copy_from_slice(query.get(question)?);
        let age = u32::try_from((now - entry.since).as_secs()).unwrap_or(u32::MAX);
        for place in &entry.times {
            let place = usize::from(*place);
            let Some(time) = answer[place..].first_chunk_mut::<4>() else { continue };
            *time = u32::from_be_bytes(*time).saturating_sub(age).to_be_bytes();
        }
        Some(answer)
    }

    /// Keeps an answer, if it may be kept.
    pub(crate) fn put(&mut self, key: &Key, answer: &[u8], now: Instant) {
        let Some((seconds, times)) = message::lifetime(answer) else { return };
        let denial = answer[6..8] == [0, 0];
        let seconds = seconds.min(if denial { LONGEST_DENIAL } else { LONGEST });
        let size = cost(&key.0, answer);
        if seconds == 0 || size > ROOM / 16 {
            return;
        }
        self.forget(&key.0);
        self.make_room(size);
        let entry = Entry {
            answer: answer.into(),
            times: times.into(),
            since: now,
            until: now + Duration::from_secs(seconds.into()),
        };
        self.entries.insert(Rc::clone(&key.0), entry);
        self.order.push_back((Rc::clone(&key.0), now));
        self.size += size;
    }

    /// Forgets everything: others are asked from now on.
    pub(crate) fn clear(&mut self) {
        *self = Cache::default();
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > ROOM {
            let Some((key, since)) = self.order.pop_front() else { return };
            // An entry that was replaced stands further back once more.
            if self.entries.get(&key).is_some_and(|entry| entry.since == since) {
                self.forget(&key);
            }
        }
        // Places of replaced entries cost little, but not nothing.
        if self.order.len() > 2 * self.entries.len() + 64 {
            let entries = &self.entries;
            self.order.retain(|(key, since)| entries.get(key).is_some_and(|entry| entry.since == *since));
        }
    }

    fn forget(&mut self, key: &Rc<[u8]>) {
        if let Some(old) = self.entries.remove(key) {
            self.size -= cost(key, &old.answer);
        }
    }
}

fn cost(key: &[u8], answer: &[u8]) -> usize {
    key.len() + answer.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, Query as Question};
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    fn query(name: &str) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Question::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message.to_vec().unwrap()
    }

    fn answer(query: &[u8], ttl: u32) -> Vec<u8> {
        let mut message = Message::from_vec(query).unwrap().into_response();
        let name = message.queries[0].name().clone();
        message.add_answer(Record::from_rdata(name, ttl, RData::A("10.0.0.1".parse().unwrap())));
        message.to_vec().unwrap()
    }

    #[test]
    fn an_answer_serves_whoever_asks_the_same() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let first = query("a.example.");
        cache.put(&Key::of(&first, 0), &answer(&first, 60), now);
        let again = query("A.Example.");
        let later = now + Duration::from_secs(20);
        let got = cache.get(&Key::of(&again, 0), &again, later).unwrap();
        assert_eq!(got[..2], again[..2]);
        let message = Message::from_vec(&got).unwrap();
        assert_eq!((message.queries[0].name().to_string(), message.answers[0].ttl), ("A.Example.".to_owned(), 40));
        assert_eq!(cache.get(&Key::of(&again, 7), &again, later), None, "other servers");
        assert_eq!(cache.get(&Key::of(&again, 0), &again, now + Duration::from_secs(60)), None, "too old");
        let mut other = query("a.example.");
        other[3] |= 0x10;
        assert_eq!(cache.get(&Key::of(&other, 0), &other, later), None, "another flag");
    }

    #[test]
    fn a_question_that_points_to_somewhere_is_no_longer_than_it_is() {
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        let mut response = query.clone();
        response[2] |= 0x80;
        response[7] = 1;
        response.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
        let (mut cache, key, now) = (Cache::default(), Key::of(&query, 0), Instant::now());
        cache.put(&key, &response, now);
        assert_eq!(cache.get(&key, &query, now), Some(response));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let keys: Vec<_> = (0..8000).map(|n| query(&format!("host-{n}.example."))).collect();
        for bytes in keys.iter().chain(&keys[..10]) {
            cache.put(&Key::of(bytes, 0), &answer(bytes, 60), now);
        }
        assert!(cache.size <= ROOM && cache.entries.len() < 8000, "{} {}", cache.size, cache.entries.len());
        assert!(cache.get(&Key::of(&keys[7999], 0), &keys[7999], now).is_some());
        assert!(cache.get(&Key::of(&keys[20], 0), &keys[20], now).is_none());
        let counted: usize = cache.entries.iter().map(|(key, entry)| cost(key, &entry.answer)).sum();
        assert_eq!(cache.size, counted);
    }

    #[test]
    fn what_lives_for_no_time_is_not_kept() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let bytes = query("a.example.");
        cache.put(&Key::of(&bytes, 0), &answer(&bytes, 0), now);
        assert!(cache.entries.is_empty());
    }
}
