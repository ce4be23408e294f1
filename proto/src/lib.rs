//! The wire: what daemon and clients say to each other.
//!
//! ```text
//! *.proto ──example generate──▶ src/generated ──▶ feeder   KubeArmor's feed: messages, alerts, logs
//!                                             ├─▶ policy   KubeArmor's policy and probe services
//!                                             └─▶ karmor   what those two cannot say
//! ```
//!
//! [`feeder`] and [`policy`] have KubeArmor's packages, names and field numbers, so its clients
//! work with our daemon and ours with its. Messages of [`feeder`] serialise to KubeArmor's JSON,
//! with one difference: `UID`, `PID` and `PPID` are there when they are zero, because zero is root.

#![forbid(unsafe_code)]

mod json;

/// `feeder`: the feed of messages, alerts and logs.
#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated code is taken as it comes"
)]
pub mod feeder {
    include!("generated/feeder.rs");
}

/// `policy`: policies in, a summary of them out.
#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated code is taken as it comes"
)]
pub mod policy {
    include!("generated/policy.rs");
}

/// `karmor`: the services KubeArmor does not have.
pub mod karmor {
    /// `karmor.v1`.
    #[expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        reason = "generated code is taken as it comes"
    )]
    pub mod v1 {
        include!("generated/karmor.v1.rs");
    }
}

/// All descriptors, encoded, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");

/// The port of the feed.
pub const PORT: u16 = 32767;

/// Largest answer of the daemon to a client on the same machine: the state of all policies and
/// workloads in one message. Over TCP, where anybody may be at the other end, clients take what is
/// usual for gRPC, 4 MiB.
pub const ANSWER_BYTES: usize = 64 << 20;

/// Where the daemon listens for clients on the same machine.
pub const SOCKET: &str = "/run/karmor/karmor.sock";
