//! The part of containerd's gRPC API that the daemon reads.
//!
//! ```text
//! proto/*.proto ──build.rs, protox──▶ client stubs ──▶ enforcer::workload::containerd
//! ```
//!
//! Names and numbers are containerd's; messages and fields that the daemon does not read are left
//! out, which protobuf allows a reader to do. The published `containerd-client` crate is not used
//! because its build needs `protoc`.

#![forbid(unsafe_code)]

#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::allow_attributes,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/containerd.rs"));
}

pub use generated::containerd::*;
