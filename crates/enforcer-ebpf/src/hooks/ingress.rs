//! `cgroup_skb/ingress`: what names are answered with. Nothing is refused here.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use karmor_abi::{counters::Fault, op::Op, word::IPPROTO_TCP};

use crate::{
    decide_word::Who as _,
    dns::{self, MESSAGE_BYTES, Query},
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
    // SAFETY: a member of the context, and what the helper returns.
    let sender = unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return None;
        }
        sender::of(sk)
    };
    if sender.is_null() {
        // Nobody has asked here who is held to names.
        return None;
    }
    let hearer = sender::who(skb, sender, Op::Query.bit())?;
    let stream = transport.protocol == IPPROTO_TCP;
    let payload = packet::payload(skb, &transport)?;
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
    let query = Query::of(scratch);
    let len = payload.len.min(MESSAGE_BYTES as u32 - 1);
    dns::begin(scratch, len.into(), stream);
    // As in `egress`.
    // SAFETY: claimed by this task; at least 1 and below the length of the message.
    let error = unsafe {
        let len = ((*query).end_read().wrapping_sub(1) & (MESSAGE_BYTES as u64 - 1)) + 1;
        bpf_skb_load_bytes(
            skb.cast(),
            payload.at,
            (&raw mut (*query).message).cast(),
            len as u32,
        )
    };
    if error != 0 {
        return false;
    }
    dns::read_header(scratch);
    if stream && dns::next_name(scratch) != dns::BEGUN {
        return false;
    }
    dns::next_name(scratch) == dns::NAMED
}
