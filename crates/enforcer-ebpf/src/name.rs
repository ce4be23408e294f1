//! The decision about a name: one that is asked for, or one whose answer an address was.

use karmor_abi::{
    counters::Fault,
    label::Handle,
    op::Op,
    table::{self, SET_BY_SOURCE},
};

use crate::{
    decide_word::refused,
    maps::{Answer, Scratch},
    object::{Table, Visitor, with_table},
};

/// No class of an image: it cannot be told whose the packet is.
pub(crate) const ANYBODY: u32 = u32::MAX;

/// What a table says to the name in `scratch`.
#[inline(always)]
pub(crate) fn ask(handle: Handle, scratch: *mut Scratch, source: u32) -> Answer {
    match with_table(handle, Ask { scratch, source }) {
        Some(answer) => answer,
        None => refused(Fault::NoTable, Op::Query),
    }
}

struct Ask {
    scratch: *mut Scratch,
    source: u32,
}

impl Visitor for Ask {
    type Output = Answer;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> Answer {
        let number = table::accept(&table, table.state_of_name(self.scratch));
        if number == 0 {
            return Answer::ALLOW;
        }
        let set = table::set(&table, number);
        let verdict = if self.source == ANYBODY && set.flags() & SET_BY_SOURCE != 0 {
            table::strictest(&table, set, Op::Query)
        } else {
            let source = if self.source == ANYBODY {
                0
            } else {
                self.source
            };
            table::verdict(&table, set, Op::Query, source, table::Asker::default())
        };
        Answer {
            verdict,
            set: number,
            op: Op::Query as u32,
        }
    }
}

/// The strictest that a table says to the name in `scratch`, whoever asks.
#[inline(always)]
pub(crate) fn strictest<T: Table>(table: T, scratch: *mut Scratch) -> Answer {
    let source = ANYBODY;
    Ask { scratch, source }.visit(table)
}
