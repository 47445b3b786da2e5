//! A filter as a graph of decisions, in which equal parts exist once.

use std::collections::HashMap;

use berth_oci::runtime::SeccompOperator;

use super::rules::{Condition, Rule};

/// Offsets in what the kernel shows of a call (`struct seccomp_data`).
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// One step. `A` is the machine's accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// The end: the word for the kernel.
    Answer(u32),
    /// `A` becomes the 32 bits at an offset.
    Load { offset: u32, next: NodeId },
    /// `A` loses the bits outside a mask.
    Mask { mask: u32, next: NodeId },
    /// A comparison of `A`.
    Test { test: Test, value: u32, yes: NodeId, no: NodeId },
}

/// How `A` is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// A node's place in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(u32);

/// The nodes. What a node does depends on nothing but `A` and the call, so equal nodes may always be one.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    known: HashMap<Node, NodeId>,
}

/// The half of an argument.
#[derive(Clone, Copy)]
enum Half {
    Low,
    High,
}

impl Graph {
    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.nodes[id.0 as usize]
    }

    pub(crate) fn answer(&mut self, word: u32) -> NodeId {
        self.add(Node::Answer(word))
    }

    pub(crate) fn load(&mut self, offset: u32, next: NodeId) -> NodeId {
        // A part that never looks at A needs none.
        if matches!(self.node(next), Node::Answer(_) | Node::Load { .. }) {
            return next;
        }
        self.add(Node::Load { offset, next })
    }

    pub(crate) fn equal(&mut self, value: u32, yes: NodeId, no: NodeId) -> NodeId {
        self.test(Test::Equal, value, yes, no)
    }

    pub(crate) fn at_least(&mut self, value: u32, yes: NodeId, no: NodeId) -> NodeId {
        self.test(Test::GreaterOrEqual, value, yes, no)
    }

    /// The rules in order, then `otherwise`.
    pub(crate) fn rules(&mut self, rules: &[Rule], otherwise: NodeId) -> NodeId {
        rules.iter().rev().fold(otherwise, |no, rule| {
            let yes = self.answer(rule.answer);
            rule.conditions.iter().rev().fold(yes, |yes, condition| self.condition(condition, yes, no))
        })
    }

    fn condition(&mut self, condition: &Condition, yes: NodeId, no: NodeId) -> NodeId {
        match condition.operator {
            SeccompOperator::Equal | SeccompOperator::MaskedEqual => self.equals(condition, yes, no),
            SeccompOperator::NotEqual => self.equals(condition, no, yes),
            SeccompOperator::Greater => self.exceeds(condition, Test::Greater, yes, no),
            SeccompOperator::GreaterOrEqual => self.exceeds(condition, Test::GreaterOrEqual, yes, no),
            SeccompOperator::Less => self.exceeds(condition, Test::GreaterOrEqual, no, yes),
            SeccompOperator::LessOrEqual => self.exceeds(condition, Test::Greater, no, yes),
        }
    }

    /// Both halves must be equal under their masks; a half without a mask is not looked at.
    fn equals(&mut self, condition: &Condition, yes: NodeId, no: NodeId) -> NodeId {
        let low = self.half_equals(condition, Half::Low, yes, no);
        self.half_equals(condition, Half::High, low, no)
    }

    fn half_equals(&mut self, condition: &Condition, half: Half, yes: NodeId, no: NodeId) -> NodeId {
        let (value, mask) = (half.of(condition.value), half.of(condition.mask));
        if mask == 0 {
            return yes;
        }
        let mut next = self.equal(value, yes, no);
        if mask != u32::MAX {
            next = self.add(Node::Mask { mask, next });
        }
        self.load(half.offset(condition.argument), next)
    }

    /// The high halves decide unless they are equal; then the low ones do.
    fn exceeds(&mut self, condition: &Condition, test: Test, yes: NodeId, no: NodeId) -> NodeId {
        let (low, high) = (Half::Low.of(condition.value), Half::High.of(condition.value));
        let low = self.test(test, low, yes, no);
        let low = self.load(Half::Low.offset(condition.argument), low);
        // An argument of 32 bits has no high half to compare.
        if Half::High.of(condition.mask) == 0 {
            return low;
        }
        let tie = self.equal(high, low, no);
        let next = self.test(Test::Greater, high, yes, tie);
        self.load(Half::High.offset(condition.argument), next)
    }

    fn test(&mut self, test: Test, value: u32, yes: NodeId, no: NodeId) -> NodeId {
        match (test, value) {
            _ if yes == no => yes,
            (Test::GreaterOrEqual, 0) => yes,
            (Test::Greater, u32::MAX) => no,
            _ => self.add(Node::Test { test, value, yes, no }),
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        if let Some(id) = self.known.get(&node) {
            return *id;
        }
        let id = NodeId(u32::try_from(self.nodes.len()).expect("a profile makes fewer than 2^32 nodes"));
        self.nodes.push(node);
        self.known.insert(node, id);
        id
    }
}

impl Half {
    #[expect(clippy::cast_possible_truncation, reason = "that is what a half is")]
    fn of(self, value: u64) -> u32 {
        match self {
            Self::Low => value as u32,
            Self::High => (value >> 32) as u32,
        }
    }

    /// All machines that filters are made for are little-endian.
    fn offset(self, argument: u8) -> u32 {
        ARGUMENTS + 8 * u32::from(argument) + if matches!(self, Self::High) { 4 } else { 0 }
    }
}
