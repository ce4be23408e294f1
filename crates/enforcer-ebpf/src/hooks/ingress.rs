//! `cgroup_skb/ingress`: what names are answered with. Nothing is refused here.

use aya_ebpf::{bindings::__sk_buff, macros::cgroup_skb, programs::SkBuffContext};
use karmor_abi::{counters::Fault, op::Op, word::IPPROTO_TCP};

use crate::{
    decide_word::Who as _,
    dns::{self, MESSAGE_BYTES},
    emit::count_fault,
    kernel::{
        packet::{self, Payload},
        path,
    },
    maps::Scratch,
    resolved,
    sender::{self, RESOLVER},
};

/// The packet goes on.
const PASS: i32 = 1;

#[cgroup_skb(ingress)]
pub(crate) fn cgroup_skb_ingress(ctx: SkBuffContext) -> i32 {
    learn(ctx.skb.skb);
    PASS
}

#[inline(always)]
fn learn(skb: *mut __sk_buff) -> Option<()> {
    let transport = packet::transport(skb)?;
    if transport.from != RESOLVER {
        return None;
    }
    // SAFETY: a full socket of the packet.
    let sender = unsafe { sender::of(packet::socket(skb)?) };
    if sender.is_null() {
        // Nobody has asked here who is held to names.
        return None;
    }
    let hearer = sender::who(skb, sender, Op::Query.bit())?;
    let stream = transport.protocol == IPPROTO_TCP;
    let payload = packet::payload(skb, &transport).filter(|payload| payload.len > 0)?;
    let Some(scratch) = path::claim() else {
        count_fault(Fault::NoScratch);
        return None;
    };
    if read_question(skb, &payload, stream, scratch) {
        resolved::learn(scratch, hearer.handle(), hearer.workload());
    }
    path::release(scratch);
    Some(())
}

/// Copies a message and reads what it is about. `false` when that cannot be told.
#[inline(always)]
fn read_question(
    skb: *mut __sk_buff,
    payload: &Payload,
    stream: bool,
    scratch: *mut Scratch,
) -> bool {
    let len = payload.len.min(MESSAGE_BYTES as u32 - 1);
    if !dns::load(skb, payload.at, len, stream, scratch) {
        return false;
    }
    if stream && dns::next_name(scratch) != dns::BEGUN {
        return false;
    }
    dns::next_name(scratch) == dns::NAMED
}
