//! Reading of event records.
//!
//! The kernel half writes them, but they are parsed as if anybody had: a record that is not what
//! [`karmor_abi::event`] says is an error, never a panic and never a read outside it.

use karmor_abi::{
    event::{Header, Hook, OBJECT_PATH, OBJECT_WORD, TEXTS, Text},
    limits::{ARGS_BYTES, COMM_BYTES, PATH_BYTES, TTY_BYTES},
    op::{Object, Op},
    verdict::Verdict,
    word::Word,
};

/// A checked event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The fixed part, as written.
    pub header: Header,
    /// Which hook.
    pub hook: Hook,
    /// Which operation.
    pub op: Op,
    /// What the object is when it has no decidable path.
    pub object: Option<Object>,
    /// What it is about when that has no path at all.
    pub word: Option<Word<'a>>,
    texts: [&'a [u8]; TEXTS],
}

/// Why bytes are not an event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Shorter than a header.
    #[error("event of {0} bytes is shorter than its header")]
    Short(usize),
    /// Texts longer than the record, or than any text may be.
    #[error("event text {text} of {len} bytes does not fit")]
    Text {
        /// Index of the text.
        text: usize,
        /// Claimed bytes.
        len: usize,
    },
    /// What should be a word is none.
    #[error("event is about something that cannot be read")]
    Word,
    /// A number that names nothing.
    #[error("event has unknown {what} {value}")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u8,
    },
}

/// Takes fixed-size pieces off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[b]| b)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
}

fn header(r: &mut Reader<'_>) -> Option<Header> {
    // In the order of the struct; a struct expression evaluates its fields as written.
    Some(Header {
        time_ns: r.u64()?,
        sequence: r.u64()?,
        verdict: r.u64()?,
        exec_id: r.u64()?,
        cpu: r.u32()?,
        workload: r.u32()?,
        table: r.u32()?,
        set: r.u32()?,
        source: r.u32()?,
        parent: r.u32()?,
        host_pid: r.u32()?,
        host_ppid: r.u32()?,
        pid: r.u32()?,
        ppid: r.u32()?,
        uid: r.u32()?,
        owner: r.u32()?,
        flags: r.u32()?,
        hook: r.u8()?,
        op: r.u8()?,
        object: r.u8()?,
        class: r.u8()?,
        comm: r.take::<COMM_BYTES>()?,
        tty: r.take::<TTY_BYTES>()?,
        text: [r.u16()?, r.u16()?, r.u16()?, r.u16()?, r.u16()?],
        argument: r.u16()?,
        reserved: [r.u16()?, r.u16()?, r.u16()?, r.u16()?, r.u16()?, r.u16()?],
    })
}

/// Reads one record.
///
/// # Errors
/// The first thing wrong with it. Bytes behind the texts are ignored.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let mut reader = Reader(bytes);
    let header = header(&mut reader).ok_or(DecodeError::Short(bytes.len()))?;
    let unknown = |what, value| DecodeError::Unknown { what, value };
    let hook = Hook::ALL
        .get(usize::from(header.hook))
        .copied()
        .ok_or(unknown("hook", header.hook))?;
    let op = Op::from_number(header.op).ok_or(unknown("operation", header.op))?;
    let object = match header.object {
        OBJECT_PATH | OBJECT_WORD => None,
        class => Some(
            Object::ALL
                .get(usize::from(class))
                .copied()
                .ok_or(unknown("object class", class))?,
        ),
    };
    let mut texts = [&[][..]; TEXTS];
    for (text, slot) in texts.iter_mut().enumerate() {
        let len = usize::from(header.text[text]);
        // A path is reported with what could be read of it, so one byte of slack for the NUL.
        let most = if text == Text::Args as usize {
            ARGS_BYTES
        } else {
            PATH_BYTES + 1
        };
        *slot = Some(len)
            .filter(|len| *len <= most)
            .and_then(|len| reader.slice(len))
            .ok_or(DecodeError::Text { text, len })?;
    }
    let word = match header.object {
        OBJECT_WORD => Some(Word::parse(texts[Text::Path as usize]).ok_or(DecodeError::Word)?),
        _ => None,
    };
    Ok(Event {
        header,
        hook,
        op,
        object,
        word,
        texts,
    })
}

impl<'a> Event<'a> {
    /// One of the texts, raw.
    #[must_use]
    pub fn text(&self, text: Text) -> &'a [u8] {
        self.texts[text as usize]
    }

    /// The arguments after the program's own name.
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let args = self.text(Text::Args);
        args.strip_suffix(b"\0")
            .unwrap_or(args)
            .split(|b| *b == 0)
            .skip(1)
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict(self.header.verdict)
    }

    /// The controlling terminal's name, raw; empty when there is none.
    #[must_use]
    pub fn tty(&self) -> &[u8] {
        until_nul(&self.header.tty)
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::mem::offset_of;

    use proptest::prelude::*;

    use super::*;
    use crate::backend::memory::encode;

    /// A header with nothing special about it.
    pub(crate) fn plain() -> Header {
        Header {
            time_ns: 1,
            sequence: 1,
            verdict: Verdict::ALLOW.0,
            exec_id: 0,
            cpu: 0,
            workload: 1,
            table: 1,
            set: 0,
            source: 0,
            parent: 0,
            host_pid: 1001,
            host_ppid: 1000,
            pid: 7,
            ppid: 1,
            uid: 0,
            owner: 0,
            flags: 0,
            hook: Hook::Exec as u8,
            op: Op::Exec as u8,
            object: OBJECT_PATH,
            class: 0,
            comm: *b"bash\0\0\0\0\0\0\0\0\0\0\0\0",
            tty: *b"pts0\0\0\0\0\0\0\0\0\0\0\0\0",
            text: [0; TEXTS],
            argument: 0,
            reserved: [0; 6],
        }
    }

    #[test]
    fn reads_fields_where_the_struct_has_them() {
        // The reader goes through the fields one by one; that is only right without padding.
        let ends = [
            (offset_of!(Header, exec_id), 24),
            (offset_of!(Header, cpu), 32),
            (offset_of!(Header, flags), 80),
            (offset_of!(Header, hook), 84),
            (offset_of!(Header, class), 87),
            (offset_of!(Header, comm), 88),
            (offset_of!(Header, tty), 104),
            (offset_of!(Header, text), 120),
            (offset_of!(Header, argument), 130),
            (offset_of!(Header, reserved), 132),
            (size_of::<Header>(), 144),
        ];
        for (is, should) in ends {
            assert_eq!(is, should);
        }
        let bytes = encode(plain(), [b"/a", b"/b", b"", b"a\0-x\0\0", b"/"]);
        let event = decode(&bytes).unwrap();
        assert_eq!(
            event.header,
            Header {
                text: [2, 2, 0, 6, 1],
                ..plain()
            }
        );
        assert_eq!(event.text(Text::Exe), b"/b");
        assert_eq!(event.tty(), b"pts0");
        let args: Vec<_> = event.arguments().collect();
        assert_eq!(args, [&b"-x"[..], b""]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let bytes = encode(plain(), [b"/a", b"/b", b"/c", b"", b"/"]);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len}");
        }
        let mut wrong = plain();
        wrong.hook = 200;
        let bytes = encode(wrong, [b""; TEXTS]);
        assert_eq!(
            decode(&bytes).unwrap_err(),
            DecodeError::Unknown {
                what: "hook",
                value: 200
            }
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(event) = decode(&bytes) {
                event.arguments().for_each(drop);
            }
        }

        #[test]
        fn never_panics_near_valid(
            at in 0usize..160,
            value in any::<u8>(),
            cut in 0usize..200,
        ) {
            let mut bytes = encode(plain(), [b"/usr/bin/apt", b"/bin/sh", b"/init", b"apt\0up\0", b"/"]);
            if let Some(b) = bytes.get_mut(at) { *b = value; }
            bytes.truncate(bytes.len().min(cut));
            let _ = decode(&bytes);
        }
    }
}
