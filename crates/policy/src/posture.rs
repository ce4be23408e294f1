//! What a namespace says of the default postures.

use std::collections::BTreeMap;

use crate::model::{Posture, Postures};

/// The annotation of a namespace for files and processes.
pub const FILE_ANNOTATION: &str = "kubearmor-file-posture";

/// The annotation of a namespace for the network.
pub const NETWORK_ANNOTATION: &str = "kubearmor-network-posture";

/// The annotation of a namespace for capabilities.
pub const CAPABILITIES_ANNOTATION: &str = "kubearmor-capabilities-posture";

/// An annotation whose value is none, and what is to be written instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The annotation.
    pub annotation: &'static str,
    /// What it says.
    pub found: String,
    /// What it is to say: the default, which is what counts meanwhile. `None` when the annotation is
    /// to be removed: the default is [`Posture::Allow`], which no annotation can say.
    pub becomes: Option<&'static str>,
}

/// The postures of a namespace with these annotations, and which of them have to be corrected. An
/// annotation says `audit` or `block`, in any case; without one, and in place of any other value,
/// the default counts.
#[must_use]
pub fn of_annotations(
    annotations: &BTreeMap<String, String>,
    defaults: Postures,
) -> (Postures, Vec<Correction>) {
    let mut corrections = Vec::new();
    let mut of = |annotation: &'static str, default: Posture| {
        let Some(found) = annotations.get(annotation) else {
            return default;
        };
        let named =
            |posture: &Posture| word(*posture).is_some_and(|w| found.eq_ignore_ascii_case(w));
        let known = [Posture::Audit, Posture::Block].into_iter().find(named);
        known.unwrap_or_else(|| {
            corrections.push(Correction {
                annotation,
                found: found.clone(),
                becomes: word(default),
            });
            default
        })
    };
    let postures = Postures {
        file: of(FILE_ANNOTATION, defaults.file),
        network: of(NETWORK_ANNOTATION, defaults.network),
        capabilities: of(CAPABILITIES_ANNOTATION, defaults.capabilities),
    };
    (postures, corrections)
}

/// A posture as an annotation says it.
const fn word(posture: Posture) -> Option<&'static str> {
    match posture {
        Posture::Audit => Some("audit"),
        Posture::Block => Some("block"),
        Posture::Allow => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(annotations: &[(&str, &str)], defaults: Postures) -> (Postures, Vec<Correction>) {
        let owned = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        of_annotations(&owned.collect(), defaults)
    }

    const DEFAULTS: Postures = Postures {
        file: Posture::Audit,
        network: Posture::Block,
        capabilities: Posture::Allow,
    };

    #[test]
    fn what_a_namespace_does_not_say_is_the_default() {
        assert_eq!(of(&[], DEFAULTS), (DEFAULTS, vec![]));
        assert_eq!(of(&[("other", "block")], DEFAULTS), (DEFAULTS, vec![]));
    }

    #[test]
    fn each_family_has_its_annotation() {
        let all = [
            ("kubearmor-file-posture", "block"),
            ("kubearmor-network-posture", "Audit"),
            ("kubearmor-capabilities-posture", "BLOCK"),
        ];
        let expected = Postures {
            file: Posture::Block,
            network: Posture::Audit,
            capabilities: Posture::Block,
        };
        assert_eq!(of(&all, DEFAULTS), (expected, vec![]));
        let one = Postures {
            network: Posture::Audit,
            ..DEFAULTS
        };
        assert_eq!(of(&all[1..2], DEFAULTS), (one, vec![]));
    }

    #[test]
    fn what_is_no_posture_is_corrected_to_the_default() {
        let wrong = [
            ("kubearmor-file-posture", "deny"),
            ("kubearmor-network-posture", ""),
            ("kubearmor-capabilities-posture", "allow"),
        ];
        let (postures, corrections) = of(&wrong, DEFAULTS);
        assert_eq!(postures, DEFAULTS);
        let told: Vec<_> = corrections
            .iter()
            .map(|c| (c.annotation, &*c.found, c.becomes))
            .collect();
        assert_eq!(
            told,
            [
                ("kubearmor-file-posture", "deny", Some("audit")),
                ("kubearmor-network-posture", "", Some("block")),
                ("kubearmor-capabilities-posture", "allow", None),
            ]
        );
    }

    #[test]
    fn a_corrected_annotation_needs_no_correction() {
        for posture in [Posture::Audit, Posture::Block, Posture::Allow] {
            let defaults = Postures::all(posture);
            let (before, corrections) = of(&[(FILE_ANNOTATION, "x")], defaults);
            let written = corrections[0].becomes.map(|value| (FILE_ANNOTATION, value));
            let (after, more) = of(written.as_slice(), defaults);
            assert_eq!((before, more), (after, vec![]));
        }
    }
}
