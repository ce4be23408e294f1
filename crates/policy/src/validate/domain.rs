//! Names that may be asked for.

use std::net::IpAddr;

use crate::{
    diagnostic::quote,
    manifest::{
        Spanned,
        context::{Context, Problem},
    },
};

/// Longest name, in bytes, as packets carry it.
const NAME_BYTES: usize = 253;

/// Longest part of a name between dots, in bytes.
const LABEL_BYTES: usize = 63;

/// A domain as it is compared: in lower case, without dots at its ends.
pub(super) fn domain(name: &str, found: &Spanned<String>, cx: &Context<'_>) -> Option<String> {
    let bare = name.trim_matches('.');
    if let Some((why, help)) = wrong(bare) {
        let message = format!("{} is not a domain name: {why}", quote(bare));
        let problem = Problem::error(found.span, message);
        cx.report(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
        return None;
    }
    if bare.parse::<IpAddr>().is_ok() {
        let message = format!(
            "{} is an address: nobody asks for it as a name",
            quote(bare)
        );
        let help = "for an address, use `matchEndpoints` with `cidr`";
        cx.report(Problem::warning(found.span, message).help(help));
    }
    Some(bare.to_ascii_lowercase())
}

/// The rule that a name breaks, and what to do.
fn wrong(name: &str) -> Option<(String, Option<&'static str>)> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() {
        return Some(("it is empty".to_owned(), None));
    }
    if let Some(other) = name.chars().find(|c| !allowed(c)) {
        let why = format!("it has the character {}", quote(&other.to_string()));
        let help = match other {
            '*' => "a domain includes its sub-domains; leave the `*.` out",
            // The one of a scheme comes before the others.
            ':' if !name.contains('/') => {
                "a name has no port; for an address and its ports, use `matchEndpoints`"
            }
            ':' | '/' => "write only the name, without `https://` or path",
            other if !other.is_ascii() => {
                "write what packets carry, its form with `xn--`: `xn--mller-kva.de` for `müller.de`"
            }
            _ => "a name has letters, digits, `-`, `_`, and dots between its parts",
        };
        return Some((why, Some(help)));
    }
    if name.len() > NAME_BYTES {
        let why = format!("it has {} bytes, more than {NAME_BYTES}", name.len());
        return Some((why, None));
    }
    name.split('.').find_map(|label| match label.len() {
        0 => Some(("it has two dots without anything between".to_owned(), None)),
        1..=LABEL_BYTES => None,
        bytes => {
            let why = format!(
                "{} has {bytes} bytes, more than {LABEL_BYTES}",
                quote(label)
            );
            Some((why, None))
        }
    })
}
