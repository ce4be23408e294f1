//! What a text says: the custom resources as they are written, nothing interpreted.
//!
//! ```text
//! text ──parse──▶ nodes ──envelope, decode──▶ Manifest
//!            every node, field and value knows where it stands
//! ```
//!
//! Problems do not end the reading: each is reported, and what can still be read is.

pub(crate) mod context;
#[cfg(feature = "crd")]
pub mod crd;
pub(crate) mod decode;
mod envelope;
pub(crate) mod fields;
pub mod limits;
pub(crate) mod node;
mod parse;
mod pasted;
mod repair;
mod source;
mod syntax;
pub mod types;
mod write;

use self::{
    context::Context,
    types::{ClusterPolicySpec, HostPolicySpec, Metadata, PolicySpec},
};
pub use self::{
    decode::{Ignored, Items, Labels, Port},
    envelope::API_VERSION,
    source::{Span, Spanned},
};
pub(crate) use self::{source::Source, write::Written};
use crate::model::Kind;

/// One policy as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `metadata`.
    pub metadata: Metadata,
    /// `spec`.
    pub spec: Spanned<Spec>,
    /// Where the document stands.
    pub span: Span,
    /// Its index, if it is an item of a `List`.
    pub item: Option<usize>,
    /// Something in it could not be read and is missing here.
    pub failed: bool,
    /// Where its text is to be had from.
    pub(crate) written: Written,
}

/// `spec`, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// Of a `KubeArmorPolicy`.
    Container(Box<PolicySpec>),
    /// Of a `KubeArmorClusterPolicy`.
    Cluster(Box<ClusterPolicySpec>),
    /// Of a `KubeArmorHostPolicy`.
    Host(Box<HostPolicySpec>),
}

impl Manifest {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.spec.value {
            Spec::Container(_) => Kind::Container,
            Spec::Cluster(_) => Kind::Cluster,
            Spec::Host(_) => Kind::Host,
        }
    }
}

/// Reads all manifests of a text. `kind` is their kind if the caller knows it.
pub(crate) fn read(text: &str, kind: Option<Kind>, cx: &Context<'_>) -> Vec<Manifest> {
    let mut manifests = Vec::new();
    for document in parse::documents(cx, text) {
        let before = manifests.len();
        envelope::manifests(&document, kind, cx, &mut manifests);
        for manifest in manifests.iter_mut().skip(before) {
            manifest.failed |= document.failed;
        }
    }
    manifests
}
