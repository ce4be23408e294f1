//! Which sets of a table words of the kernel can reach.
//!
//! The patterns of sockets and endpoints take any byte where any value will do, so a table has cells
//! for words that nobody ever asks about, such as a datagram socket of TCP. What decides only there
//! never decides.

use std::collections::HashSet;

use karmor_abi::{
    table::{self, View},
    word::{self, ENDPOINT, Protocol, nibble},
};

use crate::names;

/// The sets of all sockets that there can be, and of all other ends.
pub(super) fn sets(view: &View<'_>) -> HashSet<u32> {
    let mut sets = sockets(view);
    // Half-bytes of the address, by version.
    sets.extend(endpoints(view, 4, 8));
    sets.extend(endpoints(view, 6, 32));
    sets
}

fn sockets(view: &View<'_>) -> HashSet<u32> {
    let kinds = names::SOCKET_TYPES.into_iter();
    let all = kinds.flat_map(|kind| Protocol::ALL.map(|protocol| (kind, protocol)));
    all.filter(|&(kind, protocol)| names::is_socket(kind, protocol))
        .map(|(kind, protocol)| table::walk(view, &word::socket(kind, protocol)))
        .collect()
}

/// Walks with all words at once: after each byte, in every state that one of them can be in.
fn endpoints(view: &View<'_>, version: u8, halves: usize) -> HashSet<u32> {
    let half_bytes: Vec<u8> = (0..16).map(nibble).collect();
    let protocols: Vec<u8> = (1..=u8::MAX).collect();
    let address = std::iter::repeat_n(&half_bytes, halves);
    let port = std::iter::repeat_n(&half_bytes, 4);
    let from = table::walk_on(view, table::start(view), &[ENDPOINT, version]);
    let mut states = HashSet::from([from]);
    for bytes in address.chain([&protocols]).chain(port) {
        let next = |state: u32| {
            let bytes = bytes.iter();
            bytes.map(move |&byte| table::walk_on(view, state, &[byte]))
        };
        states = states.into_iter().flat_map(next).collect();
    }
    let ends = states.into_iter();
    ends.map(|state| table::accept(view, state)).collect()
}
