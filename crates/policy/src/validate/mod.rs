//! What a manifest means: manifest to [`Policy`], and everything that is wrong with it.
//!
//! # Parts that are understood but not enforced
//!
//! Each is listed in [`Policy::not_enforced`] and reported as a warning; none is dropped in
//! silence.

mod domain;
mod endpoint;
mod level;
mod name;
mod path;
mod pattern;
mod recorded;
mod rules;
mod selector;
mod spared;
mod syscalls;
mod words;

use self::{level::Level, rules::Rules};
use crate::{
    manifest::{
        Manifest, Span, Spanned, Spec,
        context::{Context, Problem},
        decode::empty,
        types::{
            Attributed, Attributes, CapabilitiesSection, FileSection, List, NetworkSection, Preset,
            ProcessSection, SyscallsSection,
        },
    },
    model::{Kind, Policy, Selector},
};

/// `metadata.namespace` when it is absent.
const DEFAULT_NAMESPACE: &str = "default";

/// Schema of the name of a system call.
#[cfg(feature = "crd")]
pub(crate) fn syscall_schema() -> serde_json::Value {
    serde_json::json!({ "type": "string", "enum": crate::names::SYSCALLS.as_slice() })
}

/// Checks a manifest; its policy, if nothing is wrong with it.
pub(crate) fn policy(manifest: &Manifest, cx: &Context<'_>) -> Option<Policy> {
    cx.item(manifest.item, || checked(manifest, cx))
}

fn checked(manifest: &Manifest, cx: &Context<'_>) -> Option<Policy> {
    let errors = cx.errors();
    let (name, namespace) = cx.at("metadata", || metadata(manifest, cx));
    let mut rules = Rules::new(cx, spares_essential(&manifest.spec.value));
    let selector = cx.at("spec", || spec(manifest, &mut rules, cx));
    if manifest.failed || cx.errors() > errors {
        return None;
    }
    Some(Policy {
        kind: manifest.kind(),
        name,
        namespace,
        selector,
        rules: rules.rules,
        not_enforced: rules.not_enforced,
        location: cx.location(manifest.span),
    })
}

fn metadata(manifest: &Manifest, cx: &Context<'_>) -> (String, String) {
    let metadata = &manifest.metadata;
    let missing = manifest.failed && metadata.name.is_empty();
    if !missing {
        cx.at("name", || name::subdomain(&metadata.name, cx));
    }
    if let Some(given) = metadata.namespace.as_ref().filter(|given| given.is_empty())
        && !cx.by_program()
    {
        cx.at("namespace", || {
            cx.report(empty("namespace", given.span, cx))
        });
    }
    if let Some(given) = given_namespace(manifest) {
        cx.at("namespace", || match manifest.kind() {
            Kind::Container => name::namespace(given, cx),
            Kind::Cluster | Kind::Host if cx.by_program() => {}
            kind @ (Kind::Cluster | Kind::Host) => {
                let message = format!("a {} has no namespace", kind.as_str());
                cx.report(Problem::warning(given.span, message).label("ignored"));
            }
        });
    }
    (metadata.name.value.clone(), namespace(manifest).to_owned())
}

fn given_namespace(manifest: &Manifest) -> Option<&Spanned<String>> {
    manifest
        .metadata
        .namespace
        .as_ref()
        .filter(|namespace| !namespace.is_empty())
}

/// The namespace of a policy: of kinds without one, the empty text.
pub(crate) fn namespace(manifest: &Manifest) -> &str {
    match manifest.kind() {
        Kind::Container => given_namespace(manifest).map_or(DEFAULT_NAMESPACE, |n| n.as_str()),
        Kind::Cluster | Kind::Host => "",
    }
}

/// The sections that all kinds have.
struct Sections<'m> {
    attributes: Attributes<'m>,
    process: Option<&'m Spanned<ProcessSection>>,
    file: Option<&'m Spanned<FileSection>>,
    network: Option<&'m Spanned<NetworkSection>>,
    capabilities: Option<&'m Spanned<CapabilitiesSection>>,
    syscalls: Option<&'m Spanned<SyscallsSection>>,
    presets: Option<&'m List<Preset>>,
    apparmor: Option<&'m Spanned<String>>,
}

macro_rules! sections {
    ($spec:expr) => {
        Sections {
            attributes: $spec.attributes(),
            process: $spec.process.as_ref(),
            file: $spec.file.as_ref(),
            network: $spec.network.as_ref(),
            capabilities: $spec.capabilities.as_ref(),
            syscalls: $spec.syscalls.as_ref(),
            presets: $spec.presets.as_ref(),
            apparmor: $spec.apparmor.as_ref(),
        }
    };
}

fn spec(manifest: &Manifest, rules: &mut Rules<'_, '_>, cx: &Context<'_>) -> Selector {
    let span = manifest.spec.span;
    let (selector, sections, device) = match &manifest.spec.value {
        Spec::Container(spec) => {
            let selector = selector::pod(spec.selector.as_ref(), namespace(manifest), cx);
            (selector, sections!(spec), None)
        }
        Spec::Cluster(spec) => {
            let selector = selector::cluster(spec.selector.as_ref(), cx);
            (selector, sections!(spec), None)
        }
        Spec::Host(spec) => {
            let selector = selector::node(spec.node_selector.as_ref(), span, cx);
            (selector, sections!(spec), spec.device.as_ref())
        }
    };
    let level = Level::spec(sections.attributes, cx);
    if let Some(section) = sections.process {
        cx.at("process", || rules.process(section, &level));
    }
    if let Some(section) = sections.file {
        cx.at("file", || rules.file(section, &level));
    }
    if let Some(section) = sections.network {
        cx.at("network", || words::network(section, &level, rules, cx));
    }
    if let Some(section) = sections.capabilities {
        cx.at("capabilities", || {
            words::capabilities(section, &level, rules, cx)
        });
    }
    if let Some(section) = sections.syscalls {
        cx.at("syscalls", || {
            syscalls::syscalls(section, &level, rules, cx)
        });
    }
    if let Some(presets) = sections.presets {
        cx.at("presets", || {
            words::presets(presets, manifest.kind(), &level, rules, cx)
        });
    }
    if let Some(section) = device {
        cx.at("device", || recorded::device(section, &level, rules, cx));
    }
    if let Some(apparmor) = sections.apparmor {
        cx.at("apparmor", || recorded::apparmor(apparmor, rules, cx));
    }
    if rules.written() == 0 && !manifest.failed {
        no_rules(manifest, span, cx);
    }
    selector
}

/// A host policy spares what a host cannot do without, unless it says otherwise.
fn spares_essential(spec: &Spec) -> bool {
    match spec {
        Spec::Container(_) | Spec::Cluster(_) => false,
        Spec::Host(spec) => !spec.include_essential.as_ref().is_some_and(|b| b.value),
    }
}

fn no_rules(manifest: &Manifest, span: Span, cx: &Context<'_>) {
    let device = if manifest.kind() == Kind::Host {
        ", presets or device"
    } else {
        " or presets"
    };
    cx.report(
        Problem::error(span, "the policy has no rules").help(format!(
            "rules stand in process, file, network, capabilities, syscalls{device}"
        )),
    );
}
