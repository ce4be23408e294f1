//! Directories that are symbolic links on most systems, so that a rule that names the link also
//! matches what the kernel sees.
//!
//! Policies say `/bin/bash`; on a merged-`/usr` image the kernel only ever sees `/usr/bin/bash`.
//! A rule keeps the name it was written with and gains the real one.
//!
//! Only the links listed here are believed. A process that may write to its root could otherwise
//! plant a link that drags a rule to another place.

use serde::{Deserialize, Serialize};

use crate::glob::Token;

/// Every link that is believed, with each place distributions point it at.
const KNOWN: [(&str, &str); 14] = [
    ("/bin", "/usr/bin"),
    ("/sbin", "/usr/sbin"),
    ("/lib", "/usr/lib"),
    ("/lib32", "/usr/lib32"),
    ("/lib64", "/usr/lib64"),
    ("/libx32", "/usr/libx32"),
    ("/var/run", "/run"),
    ("/var/lock", "/run/lock"),
    // Where `sbin` and `lib64` are merged as well.
    ("/sbin", "/usr/bin"),
    ("/usr/sbin", "/usr/bin"),
    ("/lib32", "/usr/lib"),
    ("/lib64", "/usr/lib"),
    ("/usr/lib32", "/usr/lib"),
    ("/usr/lib64", "/usr/lib"),
];

/// How many of [`KNOWN`] a merged-`/usr` system has.
const MERGED_USR: usize = 8;

/// The links a workload's root has, those that were seen before those that are assumed. A name may
/// have several.
///
/// Kept as a list of pairs of link and place; a pair that is not on the list is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    into = "Vec<(&'static str, &'static str)>",
    try_from = "Vec<(String, String)>"
)]
pub struct Aliases {
    pairs: Vec<(&'static str, &'static str)>,
}

impl From<Aliases> for Vec<(&'static str, &'static str)> {
    fn from(aliases: Aliases) -> Self {
        aliases.pairs
    }
}

impl TryFrom<Vec<(String, String)>> for Aliases {
    type Error = String;

    fn try_from(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let known = |(link, place): (String, String)| {
            let pair = KNOWN
                .iter()
                .find(|(from, to)| *from == link && *to == place);
            pair.copied()
                .ok_or_else(|| format!("a link from {link:?} to {place:?} is not believed"))
        };
        let pairs = pairs.into_iter().map(known).collect::<Result<_, _>>()?;
        Ok(Self { pairs })
    }
}

impl Aliases {
    /// No links: names are taken as written.
    #[must_use]
    pub const fn none() -> Self {
        Self { pairs: Vec::new() }
    }

    /// The links of a merged-`/usr` system: `/bin`, `/sbin`, `/lib`, `/lib32`, `/lib64`,
    /// `/libx32` into `/usr`; `/var/run` and `/var/lock` into `/run`.
    #[must_use]
    pub fn merged_usr() -> Self {
        Self {
            pairs: KNOWN[..MERGED_USR].to_vec(),
        }
    }

    /// The links that were found: pairs of an absolute path and the text of the link there.
    /// Relative texts are resolved; pairs that are not on the known list are ignored.
    ///
    /// Those of a merged-`/usr` system are assumed besides: whoever looks at a root may be shown
    /// another one, in which the links that count are missing or different.
    pub fn observed<'a>(links: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (link, text) in links {
            let real = resolve_link(link, text);
            let known = KNOWN.iter().find(|&&(from, to)| from == link && to == real);
            if let Some(&pair) = known
                && pairs.iter().all(|&(from, _)| from != pair.0)
            {
                pairs.push(pair);
            }
        }
        pairs.sort_unstable();
        for pair in &KNOWN[..MERGED_USR] {
            if !pairs.contains(pair) {
                pairs.push(*pair);
            }
        }
        Self { pairs }
    }

    /// Every path that [`Self::observed`] wants to be asked about.
    pub fn candidates() -> impl Iterator<Item = &'static str> {
        let mut names: Vec<&str> = KNOWN.iter().map(|&(from, _)| from).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter()
    }

    /// The names of a path or directory: as written, then every one that a link leads to.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let mut names = vec![path.to_owned()];
        let mut at = 0;
        while let Some(name) = names.get(at).cloned() {
            for next in self.steps(&name) {
                if !names.contains(&next) {
                    names.push(next);
                }
            }
            at += 1;
        }
        names
    }

    /// The real name of a path or directory, as far as links were seen.
    #[must_use]
    pub fn resolve(&self, path: &str) -> String {
        let mut name = path.to_owned();
        // A link on the way into another is followed once each.
        for _ in 0..self.pairs.len() {
            let Some(next) = self.steps(&name).next() else {
                break;
            };
            name = next;
        }
        name
    }

    /// The names of one alternative of a glob, by its literal prefix.
    pub(crate) fn token_names(&self, tokens: &[Token]) -> Vec<Vec<Token>> {
        let mut prefix = Vec::new();
        for token in tokens {
            let &Token::Byte(byte) = token else { break };
            prefix.push(byte);
        }
        // A name that only starts like a link (`/bin*`) does not run through it.
        let whole = prefix.len() == tokens.len();
        let cut = if whole {
            prefix.len()
        } else {
            prefix
                .iter()
                .rposition(|&b| b == b'/')
                .map_or(0, |slash| slash + 1)
        };
        let Ok(text) = std::str::from_utf8(&prefix[..cut]) else {
            return vec![tokens.to_vec()];
        };
        self.names(text)
            .into_iter()
            .map(|name| {
                name.bytes()
                    .map(Token::Byte)
                    .chain(tokens[cut..].iter().copied())
                    .collect()
            })
            .collect()
    }

    /// Where the links that `path` is or runs through lead.
    fn steps<'a>(&'a self, path: &'a str) -> impl Iterator<Item = String> + 'a {
        self.pairs.iter().filter_map(move |(from, to)| {
            let rest = path.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
        })
    }
}

/// Where a link leads: `text` seen from the directory `link` lies in.
fn resolve_link(link: &str, text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    if !text.starts_with('/') {
        parts.extend(link.split('/').filter(|p| !p.is_empty()));
        parts.pop();
    }
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.iter().flat_map(|part| ["/", part]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::glob::Glob;

    #[test]
    fn names_run_through_links_only_at_component_borders() {
        let aliases = Aliases::merged_usr();
        assert_eq!(aliases.names("/bin/cat"), ["/bin/cat", "/usr/bin/cat"]);
        assert_eq!(aliases.names("/bin"), ["/bin", "/usr/bin"]);
        assert_eq!(aliases.names("/bin/"), ["/bin/", "/usr/bin/"]);
        assert_eq!(aliases.names("/binary/x"), ["/binary/x"]);
        assert_eq!(
            aliases.names("/lib64/ld.so"),
            ["/lib64/ld.so", "/usr/lib64/ld.so"]
        );
        assert_eq!(
            aliases.names("/var/run/x.sock"),
            ["/var/run/x.sock", "/run/x.sock"]
        );
        assert_eq!(aliases.names("/usr/bin/cat"), ["/usr/bin/cat"]);
        assert_eq!(Aliases::none().names("/bin/cat"), ["/bin/cat"]);
    }

    #[test]
    fn only_known_links_are_believed() {
        let aliases = Aliases::observed([
            ("/bin", "usr/bin"),
            ("/var/run", "../run"),
            ("/lib", "/usr/lib"),
            ("/sbin", "/tmp/evil"),
            ("/etc", "/tmp/etc"),
            ("/lib64", "../../../usr/lib"),
        ]);
        assert_eq!(aliases.resolve("/bin/sh"), "/usr/bin/sh");
        assert_eq!(aliases.resolve("/var/run/a"), "/run/a");
        assert_eq!(aliases.resolve("/lib/a"), "/usr/lib/a");
        assert_eq!(aliases.resolve("/sbin/a"), "/usr/sbin/a");
        assert_eq!(aliases.resolve("/etc/a"), "/etc/a");
        assert_eq!(aliases.resolve("/lib64/a"), "/usr/lib/a");
    }

    #[test]
    fn a_root_cannot_hide_the_usual_links() {
        let aliases = Aliases::observed([("/sbin", "usr/bin")]);
        assert_eq!(aliases.names("/bin/apt"), ["/bin/apt", "/usr/bin/apt"]);
        assert_eq!(
            aliases.names("/sbin/ip"),
            ["/sbin/ip", "/usr/bin/ip", "/usr/sbin/ip"]
        );
    }

    #[test]
    fn what_was_kept_is_what_was_seen() {
        let seen = Aliases::observed([("/sbin", "usr/bin"), ("/usr/sbin", "bin")]);
        let kept = serde_json::to_string(&seen).expect("serializes");
        assert_eq!(serde_json::from_str::<Aliases>(&kept).expect("reads"), seen);
        let planted = r#"[["/etc", "/tmp"]]"#;
        assert!(serde_json::from_str::<Aliases>(planted).is_err());
    }

    #[test]
    fn links_into_links_are_followed() {
        let aliases = Aliases::observed([("/sbin", "usr/sbin"), ("/usr/sbin", "bin")]);
        assert_eq!(
            aliases.names("/sbin/ip"),
            ["/sbin/ip", "/usr/sbin/ip", "/usr/bin/ip"]
        );
        assert_eq!(aliases.resolve("/sbin/ip"), "/usr/bin/ip");
        assert!(Aliases::candidates().any(|c| c == "/usr/sbin"));
    }

    #[test]
    fn globs_follow_their_literal_prefix() {
        let aliases = Aliases::merged_usr();
        let count = |glob: &str| {
            let glob = Glob::parse(glob).expect("valid");
            glob.alternatives()
                .iter()
                .map(|a| aliases.token_names(a).len())
                .sum::<usize>()
        };
        assert_eq!(count("/bin/*sh"), 2);
        assert_eq!(count("/bin"), 2);
        assert_eq!(count("/bin*"), 1);
        assert_eq!(count("/b*/sh"), 1);
        assert_eq!(count("/{bin,opt}/*"), 3);
    }
}
