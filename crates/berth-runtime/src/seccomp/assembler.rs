//! A decision graph becomes classic BPF.
//!
//! Jumps only lead forward, so the program is written from its end: every place that a jump leads to is known by then. A condition's jump
//! spans at most 255 instructions; what lies farther is brought near by a copy (an answer) or a plain jump (anything else).

use std::collections::HashMap;

use berth_sys::seccomp::SockFilter;

use super::graph::{Graph, Node, NodeId, Test};

// Classes, modes and operations of linux/bpf_common.h.
pub(crate) const LOAD_WORD: u16 = 0x20;
pub(crate) const AND: u16 = 0x54;
pub(crate) const RETURN: u16 = 0x06;
pub(crate) const JUMP: u16 = 0x05;
pub(crate) const JUMP_EQUAL: u16 = 0x15;
pub(crate) const JUMP_GREATER: u16 = 0x25;
pub(crate) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;

/// The farthest that a condition's jump leads.
const REACH: usize = 255;

/// The program that starts at a node.
pub(crate) fn assemble(graph: &Graph, start: NodeId) -> Vec<SockFilter> {
    let mut assembler = Assembler { graph, reversed: Vec::new(), places: HashMap::new() };
    assembler.place(start);
    assembler.reversed.reverse();
    assembler.reversed
}

struct Assembler<'a> {
    graph: &'a Graph,
    /// The last instruction first.
    reversed: Vec<SockFilter>,
    /// Where each node was written last, that is nearest.
    places: HashMap<NodeId, usize>,
}

impl Assembler<'_> {
    /// Writes a node, after everything that it leads to.
    fn place(&mut self, id: NodeId) {
        if self.places.contains_key(&id) {
            return;
        }
        match self.graph.node(id) {
            Node::Answer(word) => self.emit(id, instruction(RETURN, word)),
            Node::Load { offset, next } => {
                self.place_before(next);
                self.emit(id, instruction(LOAD_WORD, offset));
            }
            Node::Mask { mask, next } => {
                self.place_before(next);
                self.emit(id, instruction(AND, mask));
            }
            Node::Test { test, value, yes, no } => {
                self.place(no);
                self.place(yes);
                let (jump_true, jump_false) = self.reach(yes, no);
                let code = match test {
                    Test::Equal => JUMP_EQUAL,
                    Test::Greater => JUMP_GREATER,
                    Test::GreaterOrEqual => JUMP_GREATER_OR_EQUAL,
                };
                self.emit(id, SockFilter { code, jump_true, jump_false, constant: value });
            }
        }
    }

    /// Sees to it that what is written next is followed by the node.
    fn place_before(&mut self, id: NodeId) {
        self.place(id);
        if self.distance(id) > 0 {
            self.bring_near(id);
        }
    }

    /// How many instructions a test that is written next skips to get to either node, both of which are brought near first.
    fn reach(&mut self, yes: NodeId, no: NodeId) -> (u8, u8) {
        loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(yes), Ok(no)) => return (yes, no),
                (Err(_), _) => self.bring_near(yes),
                (_, Err(_)) => self.bring_near(no),
            }
        }
    }

    fn bring_near(&mut self, id: NodeId) {
        let near = match self.graph.node(id) {
            Node::Answer(word) => instruction(RETURN, word),
            _ => instruction(JUMP, u32::try_from(self.distance(id)).expect("programs are far shorter than 2^32")),
        };
        self.emit(id, near);
        debug_assert!(self.distance(id) <= REACH);
    }

    /// The instructions between what is written next and a node.
    fn distance(&self, id: NodeId) -> usize {
        self.reversed.len() - 1 - self.places[&id]
    }

    fn emit(&mut self, id: NodeId, instruction: SockFilter) {
        self.places.insert(id, self.reversed.len());
        self.reversed.push(instruction);
    }
}

fn instruction(code: u16, constant: u32) -> SockFilter {
    SockFilter { code, jump_true: 0, jump_false: 0, constant }
}
