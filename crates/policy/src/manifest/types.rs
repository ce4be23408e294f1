//! The custom resources, field by field, as their texts write them.

mod rules;
mod sections;
mod specs;

use super::{
    decode::{Ignored, Items, Labels, Port, mapping},
    source::Spanned,
};

pub use self::{rules::*, sections::*, specs::*};

/// A list, and where it stands.
pub type List<T> = Spanned<Items<T>>;

/// What alerts carry and what happens; inherited from rule to section to spec.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'m> {
    /// Severity.
    pub severity: Option<&'m Spanned<i32>>,
    /// Tags.
    pub tags: Option<&'m List<String>>,
    /// Message.
    pub message: Option<&'m Spanned<String>>,
    /// Action.
    pub action: Option<&'m Spanned<String>>,
}

/// A mapping that carries [`Attributes`].
pub trait Attributed {
    /// Its attributes, as far as it has them itself.
    fn attributes(&self) -> Attributes<'_>;
}

mapping! {
    /// `metadata`. Of what Kubernetes adds to it, everything is accepted and most is ignored.
    pub struct Metadata {
        /// Name of the policy.
        "name" name: Spanned<String>,
        /// Namespace of the policy.
        "namespace" namespace: Option<Spanned<String>>,
        /// Labels of the policy itself.
        "labels" labels: Option<Spanned<Labels>>,
        /// Annotations.
        "annotations" annotations: Option<Spanned<Labels>>,
        /// Ignored.
        "creationTimestamp" creation_timestamp: Option<Spanned<Ignored>>,
        /// Ignored.
        "deletionGracePeriodSeconds" deletion_grace_period_seconds: Option<Spanned<Ignored>>,
        /// Ignored.
        "deletionTimestamp" deletion_timestamp: Option<Spanned<Ignored>>,
        /// Ignored.
        "finalizers" finalizers: Option<Spanned<Ignored>>,
        /// Ignored.
        "generateName" generate_name: Option<Spanned<Ignored>>,
        /// Ignored.
        "generation" generation: Option<Spanned<Ignored>>,
        /// Ignored.
        "managedFields" managed_fields: Option<Spanned<Ignored>>,
        /// Ignored.
        "ownerReferences" owner_references: Option<Spanned<Ignored>>,
        /// Ignored.
        "resourceVersion" resource_version: Option<Spanned<Ignored>>,
        /// Ignored.
        "selfLink" self_link: Option<Spanned<Ignored>>,
        /// Ignored.
        "uid" uid: Option<Spanned<Ignored>>,
    }
}
