//! Struct offsets from the running kernel's BTF.

use std::path::Path;

use btf_rs::{Btf, Struct, Type};
use karmor_abi::offsets::{
    ABSENT, INODE_BYTES, MEMBERS, MOUNT_LINK, Member, OPTIONAL, SETATTR_DENTRY,
};

/// Where the kernel shows its BTF.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why offsets could not be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum OffsetError {
    /// The kernel shows no BTF, or not in a form that can be read.
    #[error("reading {VMLINUX}: {0}")]
    Unreadable(String),
    /// A member is not where it is expected to be.
    #[error("the kernel's BTF has no member {member} in struct {strukt}")]
    Missing {
        /// Struct.
        strukt: &'static str,
        /// Member.
        member: &'static str,
    },
    /// A hook has not the argument that it is expected to have.
    #[error("the kernel's BTF has no argument {argument} of the hook {hook}")]
    NoArgument {
        /// Hook.
        hook: &'static str,
        /// Argument.
        argument: &'static str,
    },
    /// Members that are read together are not side by side.
    #[error("{0} are not side by side in this kernel")]
    Apart(&'static str),
}

/// The value of every offset global, in the order of [`MEMBERS`].
pub(super) fn offsets() -> Result<Vec<(&'static str, u32)>, OffsetError> {
    let btf = Btf::from_file(Path::new(VMLINUX))
        .map_err(|error| OffsetError::Unreadable(error.to_string()))?;
    let mut offsets = MEMBERS
        .iter()
        .map(|member| match offset(&btf, member) {
            Err(_) if OPTIONAL.contains(&member.global) => Ok((member.global, ABSENT)),
            found => Ok((member.global, found?)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    check_neighbours(&offsets)?;
    offsets.push((MOUNT_LINK, mount_link(&btf, &offsets)));
    offsets.push((INODE_BYTES, inode_bytes(&btf)?));
    offsets.push((SETATTR_DENTRY, argument(&btf, "inode_setattr", "dentry")?));
    Ok(offsets)
}

/// Size of a `struct inode`.
fn inode_bytes(btf: &Btf) -> Result<u32, OffsetError> {
    let types = btf
        .resolve_types_by_name("inode")
        .map_err(|error| OffsetError::Unreadable(error.to_string()))?;
    let size = types.into_iter().find_map(|found| match found {
        Type::Struct(strukt) => u32::try_from(strukt.size()).ok(),
        _ => None,
    });
    size.ok_or(OffsetError::Missing {
        strukt: "inode",
        member: "(its size)",
    })
}

/// Which argument of an LSM hook has a name, from 0.
fn argument(btf: &Btf, hook: &'static str, argument: &'static str) -> Result<u32, OffsetError> {
    let missing = OffsetError::NoArgument { hook, argument };
    let Ok(types) = btf.resolve_types_by_name(&format!("bpf_lsm_{hook}")) else {
        return Err(missing);
    };
    let found = types.into_iter().find_map(|found| {
        let Type::Func(function) = found else {
            return None;
        };
        let Ok(Type::FuncProto(prototype)) = btf.resolve_chained_type(&function) else {
            return None;
        };
        let mut names = prototype
            .parameters
            .iter()
            .map(|parameter| btf.resolve_name(parameter));
        let at = names.position(|name| name.is_ok_and(|name| name == argument))?;
        u32::try_from(at).ok()
    });
    found.ok_or(missing)
}

/// How far into a mount the pointer to the next one leads.
fn mount_link(btf: &Btf, offsets: &[(&'static str, u32)]) -> u32 {
    let old = Member {
        global: MOUNT_LINK,
        strukt: "mount",
        member: "mnt_instance",
    };
    let next = offsets.iter().find(|(global, _)| *global == "MOUNT_NEXT");
    // A list's link leads to the next link.
    match (offset(btf, &old), next) {
        (Ok(_), Some((_, at))) => *at,
        _ => 0,
    }
}

/// The hooks copy these members with one read each.
fn check_neighbours(offsets: &[(&'static str, u32)]) -> Result<(), OffsetError> {
    let of = |name| {
        offsets
            .iter()
            .find(|(global, _)| *global == name)
            .map_or(0, |(_, at)| *at)
    };
    if of("DENTRY_D_NAME") != of("DENTRY_D_PARENT") + 8 {
        return Err(OffsetError::Apart("dentry.d_parent and dentry.d_name"));
    }
    let root = of("MOUNT_MNT") + of("VFSMOUNT_MNT_ROOT");
    if of("MOUNT_MNT_MOUNTPOINT") != of("MOUNT_MNT_PARENT") + 8
        || root != of("MOUNT_MNT_PARENT") + 16
    {
        return Err(OffsetError::Apart(
            "mount.mnt_parent, mnt_mountpoint and mnt.mnt_root",
        ));
    }
    Ok(())
}

fn offset(btf: &Btf, wanted: &Member) -> Result<u32, OffsetError> {
    let missing = || OffsetError::Missing {
        strukt: wanted.strukt,
        member: wanted.member,
    };
    let types = btf
        .resolve_types_by_name(wanted.strukt)
        .map_err(|_ignored| missing())?;
    for strukt in types {
        let Type::Struct(strukt) = strukt else {
            continue;
        };
        for name in wanted.member.split('|') {
            if let Some(at) = find(btf, &strukt, name) {
                return Ok(at);
            }
        }
    }
    Err(missing())
}

/// Where a struct has the member of this name, in bytes.
fn find(btf: &Btf, strukt: &Struct, wanted: &str) -> Option<u32> {
    // Members of anonymous structs and unions belong to the struct around them.
    let mut nested = vec![(strukt.clone(), 0)];
    while let Some((strukt, base)) = nested.pop() {
        for member in &strukt.members {
            let at = base + member.bit_offset() / 8;
            let name = btf.resolve_name(member).unwrap_or_default();
            if name == wanted {
                return Some(at);
            }
            if name.is_empty()
                && let Ok(Type::Struct(inner) | Type::Union(inner)) =
                    btf.resolve_chained_type(member)
            {
                nested.push((inner, at));
            }
        }
    }
    None
}
