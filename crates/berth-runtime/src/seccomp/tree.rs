//! Ranges of numbers with the same outcome, searched by a tree of comparisons.

use super::{
    abi::{Abi, X32_BIT},
    graph::{Graph, NodeId},
    rules::{KILL_THREAD, Outcome, Policy},
};

/// Numbers from `first` up to the next range that lead to the same node.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u32,
    node: NodeId,
}

/// Beyond this number no ABI has calls in the space below its marks; what lies there weighs nothing.
const END_OF_CALLS: u32 = 512;

/// The decision for the policies that share an audit number. `A` holds the number.
pub(crate) fn build(graph: &mut Graph, policies: &[&Policy]) -> NodeId {
    let mut ranges = Vec::new();
    for policy in policies {
        add_policy(graph, policy, &mut ranges);
    }
    let has = |abi| policies.iter().any(|policy| policy.abi == abi);
    if has(Abi::X86_64) && !has(Abi::X32) {
        // The numbers of x32 belong to an ABI that is not admitted. A tracer's -1, which skips a call, is no such number.
        let kill = graph.answer(KILL_THREAD);
        let skipped = graph.answer(policies[0].otherwise(u32::MAX));
        ranges.extend([Range { first: X32_BIT, node: kill }, Range { first: u32::MAX, node: skipped }]);
    }
    ranges.dedup_by(|next, kept| next.node == kept.node);
    search(graph, &ranges, u64::from(u32::MAX) + 1)
}

fn add_policy(graph: &mut Graph, policy: &Policy, ranges: &mut Vec<Range>) {
    let base = if policy.abi == Abi::X32 { X32_BIT } else { 0 };
    let mut next = base;
    for (&number, outcome) in &policy.calls {
        fill(graph, policy, next, Some(number), ranges);
        let default = graph.answer(policy.otherwise(number));
        let node = match outcome {
            Outcome::Always(answer) => graph.answer(*answer),
            Outcome::Conditional(rules) => graph.rules(rules, default),
        };
        ranges.push(Range { first: number, node });
        next = number + 1;
    }
    fill(graph, policy, next, None, ranges);
}

/// The calls from `first` up to `end` that have no outcome of their own; at some number the unknown ones begin, on ARM they end as well.
fn fill(graph: &mut Graph, policy: &Policy, first: u32, end: Option<u32>, ranges: &mut Vec<Range>) {
    let within = |number: &u32| *number > first && end.is_none_or(|end| *number < end);
    let boundaries = [Some(first), policy.first_unknown(), policy.first_private()];
    let starts = boundaries.into_iter().flatten().filter(|number| *number == first || within(number));
    if end == Some(first) {
        return;
    }
    for start in starts {
        let node = graph.answer(policy.otherwise(start));
        ranges.push(Range { first: start, node });
    }
}

/// A tree over the ranges, which end before `end`.
///
/// Up to three single numbers within what is otherwise one range cost a comparison each; otherwise the ranges are parted where the calls
/// on both sides weigh alike, so that every call is found in about as many steps as there are bits in the number of ranges.
fn search(graph: &mut Graph, ranges: &[Range], end: u64) -> NodeId {
    match ranges {
        [] => unreachable!("a policy covers every number"),
        [only] => only.node,
        [around, rest @ ..] if are_singles(around, rest) => {
            let singles = rest.iter().step_by(2).rev();
            singles.fold(around.node, |no, single| graph.equal(single.first, single.node, no))
        }
        _ => {
            let middle = parting(ranges, end);
            let (left, right) = ranges.split_at(middle);
            let first = right[0].first;
            let above = search(graph, right, end);
            let below = search(graph, left, u64::from(first));
            graph.at_least(first, above, below)
        }
    }
}

/// Whether ranges alternate between one number each and what surrounds them all.
fn are_singles(around: &Range, rest: &[Range]) -> bool {
    matches!(rest.len(), 2 | 4 | 6)
        && rest.chunks_exact(2).all(|pair| pair[1].node == around.node && pair[1].first == pair[0].first + 1)
}

/// Where to part: the index of the range whose beginning halves the weight best.
fn parting(ranges: &[Range], end: u64) -> usize {
    let total: u64 = weights(ranges, end).sum();
    let mut left = 0;
    let mut best = (u64::MAX, 1);
    for (index, weight) in weights(ranges, end).enumerate().take(ranges.len() - 1) {
        left += weight;
        best = best.min((left.abs_diff(total - left), index + 1));
    }
    best.1
}

/// How many calls are in each range; at least one, so that empty space is balanced too.
fn weights(ranges: &[Range], end: u64) -> impl Iterator<Item = u64> {
    let ends = ranges.iter().skip(1).map(|range| u64::from(range.first)).chain([end]);
    ranges.iter().zip(ends).map(|(range, end)| {
        let base = if range.first >= X32_BIT { X32_BIT } else { 0 };
        let last = end.min(u64::from(base + END_OF_CALLS));
        last.saturating_sub(range.first.into()).max(1)
    })
}
