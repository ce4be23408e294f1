//! Bytes to text: UTF-8, and a helpful word on everything else.

/// Why some bytes are no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUtf8 {
    /// They start with the byte order mark of another encoding.
    #[error("this is UTF-16, and must be UTF-8")]
    Utf16,
    /// A byte that UTF-8 does not have at this place.
    #[error("byte {at} is {byte:#04x}, which is not UTF-8")]
    Byte {
        /// How many bytes are before it.
        at: usize,
        /// What it is.
        byte: u8,
    },
}

impl NotUtf8 {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Utf16 => {
                "save it as UTF-8, or convert it with `iconv -f UTF-16 -t UTF-8`; the `>` of \
                 PowerShell writes UTF-16, `Out-File -Encoding utf8` does not"
            }
            Self::Byte { .. } => {
                "save it as UTF-8, or convert it: with `iconv -f ISO-8859-1 -t UTF-8`, if it is \
                 Latin-1"
            }
        }
    }
}

/// The text that some bytes are.
///
/// # Errors
/// When they are not UTF-8. A byte order mark stays.
pub fn decode(bytes: &[u8]) -> Result<&str, NotUtf8> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => NotUtf8::Utf16,
            _ => NotUtf8::Byte {
                at,
                byte: bytes.get(at).copied().unwrap_or_default(),
            },
        }
    })
}
