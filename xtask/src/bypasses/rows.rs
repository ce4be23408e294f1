//! What is tried, by whom, and what is not stopped.

/// A technique that policies hold against.
pub(super) struct Row {
    /// What is done.
    pub(super) technique: &'static str,
    /// Why it leads nowhere.
    pub(super) protects: &'static str,
    /// The cases that try it.
    pub(super) cases: &'static [&'static str],
}

/// A technique that gets round a policy.
pub(super) struct Open {
    /// What is done.
    pub(super) technique: &'static str,
    /// Why it is not stopped.
    pub(super) why: &'static str,
    /// What helps.
    pub(super) helps: &'static str,
}

/// Techniques with cases, by what they aim at.
pub(super) const STOPPED: &[Row] = &[
    Row {
        technique: "Symbolic links, relative paths, links in directories",
        protects: "the path is that of the object, not the text that was opened",
        cases: &["escape_by_symlink"],
    },
    Row {
        technique: "`chroot`",
        protects: "the path goes to the root of the mount namespace, whatever the task's root is",
        cases: &["escape_by_chroot"],
    },
    Row {
        technique: "Opening, linking, renaming and removing by io_uring, also by its threads",
        protects: "the kernel asks the same hooks; a thread of a ring is who made it",
        cases: &["escape_by_io_uring"],
    },
    Row {
        technique: "A new hard link to a protected file",
        protects: "giving a protected object another name is refused",
        cases: &["escape_by_new_hard_link"],
    },
    Row {
        technique: "A hard link from before the policy, also to what a pattern matches",
        protects: "the file is found and marked when the policy arrives",
        cases: &[
            "escape_by_earlier_hard_link",
            "escape_by_hard_link_of_the_image",
        ],
    },
    Row {
        technique: "Copying up one of several names that an image gives a file, by new times",
        protects: "for a file that is marked, that is a write",
        cases: &["escape_by_copying_up"],
    },
    Row {
        technique: "Renaming a protected file",
        protects: "giving a protected object another name is refused",
        cases: &[
            "escape_by_rename",
            "escape_by_rename_out_of_a_ruled_directory",
        ],
    },
    Row {
        technique: "Renaming a directory above a protected file",
        protects: "directories on the way to a protected object must stay",
        cases: &["escape_by_rename_of_a_parent"],
    },
    Row {
        technique: "Renaming a directory to where a whitelist allows what is in it, or exchanging it with one there",
        protects: "what may lie below is decided under the old names, too",
        cases: &["escape_by_rename_to_where_all_is_allowed"],
    },
    Row {
        technique: "`unshare -m`, `unshare -p`, `unshare -Urm`",
        protects: "a task's label sticks; namespaces do not identify anybody",
        cases: &[
            "escape_by_unshare_mounts",
            "escape_by_unshare_pids",
            "escape_by_unshare_user_and_mounts",
        ],
    },
    Row {
        technique: "Bind mounts, copies of mounts, detached ones, propagated ones, a second mount of the \
                    same, handles",
        protects: "an object is decided under every name that mounts give it",
        cases: &[
            "escape_by_bind_mount",
            "escape_by_bind_mount_of_a_device",
            "escape_by_bind_mount_written",
            "escape_by_mount_from_outside",
            "escape_by_propagated_mount",
            "escape_by_second_mount_or_handle",
        ],
    },
    Row {
        technique: "Mounting over a protected file, moving or unmounting what it lies in",
        protects: "places that a rule means keep their names",
        cases: &["escape_by_mount_over_a_name", "escape_by_moved_mount"],
    },
    Row {
        technique: "An overlay of protected directories",
        protects: "what is protected may be no layer",
        cases: &[
            "escape_by_overlay_mount",
            "escape_by_layer_with_a_hard_link",
        ],
    },
    Row {
        technique: "Mounts and `pivot_root` in another mount namespace, `nsenter`, `/proc/PID/root`",
        protects: "the names of the namespace that the workload was started in count everywhere",
        cases: &[
            "escape_by_mount_namespace",
            "escape_by_mount_in_user_namespace",
            "escape_by_mount_in_the_place_of_a_program",
        ],
    },
    Row {
        technique: "Leaving the first mount namespace, every process of it",
        protects: "the daemon keeps it, and with it the names that policies mean",
        cases: &["escape_by_leaving_the_first_mount_namespace"],
    },
    Row {
        technique: "Removing a mount point in another mount namespace, which unmounts it in the first",
        protects: "what something is mounted on is not removed where rules speak of what is below",
        cases: &["escape_by_removing_a_mount_point"],
    },
    Row {
        technique: "Another image for a process by `prctl`",
        protects: "who is under a policy does not take one",
        cases: &["escape_by_taking_the_image_of_another"],
    },
    Row {
        technique: "Tracing a process of the host's or of another container, which does what the container may not",
        protects: "a container under a policy traces its own processes only",
        cases: &["escape_by_tracing_a_process_outside"],
    },
    Row {
        technique: "Double fork, orphans, another parent",
        protects: "labels are inherited at fork, and sources are worked out at exec",
        cases: &[
            "escape_by_double_fork",
            "escape_by_orphan_when_policies_change",
        ],
    },
    Row {
        technique: "`ld.so PROGRAM`",
        protects: "mapping a file executable is decided by process rules",
        cases: &["escape_by_loader"],
    },
    Row {
        technique: "A script instead of its interpreter, and the other way round",
        protects: "program, script and interpreter are decided one by one",
        cases: &["escape_by_script"],
    },
    Row {
        technique: "Changing the arguments of an exec while it is under way",
        protects: "what the new image got is looked at before its first instruction, and it dies",
        cases: &["arguments_changed_meanwhile_gain_nothing"],
    },
    Row {
        technique: "Arguments through scripts, interpreters, `execveat`, by the thousand",
        protects: "each program of an exec is held to its rules; what is too much is refused",
        cases: &[
            "arguments_that_are_not_listed_are_refused",
            "arguments_of_scripts_and_interpreters",
        ],
    },
    Row {
        technique: "Executing a memfd, or a copy in shared memory",
        protects: "what has no path has a class that restricting policies refuse",
        cases: &["escape_by_memfd", "escape_by_shared_memory"],
    },
    Row {
        technique: "A deleted file, a memfd, a file in a tmpfs, `ld.so` of one, under `filelessExec`",
        protects: "the file is asked for its links and its file system, not for its name",
        cases: &["preset_fileless_exec"],
    },
    Row {
        technique: "`mprotect`, memfds, `/dev/zero` and written mappings under `anonymousMapExec`",
        protects: "`mprotect` is asked like `mmap`, and whether something was written",
        cases: &["preset_anonymous_map_exec"],
    },
    Row {
        technique: "`/proc/PID/task/TID/environ`, `/proc/PID/root` under `protectEnv` and `protectProc`",
        protects: "processes are told by what the kernel knows them by, and links are asked when they are followed",
        cases: &["preset_protect_env", "preset_protect_proc"],
    },
    Row {
        technique: "`kubectl exec` without a terminal, or from before the policy, under `exec`",
        protects: "a session is told by who started it; its label sticks",
        cases: &["preset_exec"],
    },
    Row {
        technique: "A program that was written, lies on a volume or is only mapped, under `drift`",
        protects: "the overlay is asked which layer a file is in",
        cases: &["preset_drift"],
    },
    Row {
        technique: "`process_vm_readv`, `/proc/PID/mem`, asking to be traced, under `ptrace`",
        protects: "all pass the kernel's own check of attaching",
        cases: &["preset_ptrace"],
    },
    Row {
        technique: "The newer system calls for mounts and namespaces under `mount` and `namespace`",
        protects: "the capability that they need is refused",
        cases: &["preset_mount", "preset_namespace"],
    },
    Row {
        technique: "Writing by `O_TRUNC`, by the access mode 3, `ftruncate`, a shared mapping",
        protects: "each is decided as a write",
        cases: &[
            "escape_by_truncating_open",
            "escape_by_ftruncate",
            "escape_by_shared_mapping",
        ],
    },
    Row {
        technique: "A descriptor from before the policy, used by `read`, `write`, `splice`, `sendfile`, \
                    `copy_file_range`, io_uring, `ioctl`, `getdents`, opened anew, or inherited",
        protects: "open files that a new table refuses are found, and each use of one is decided",
        cases: &[
            "escape_by_descriptor_from_before",
            "escape_by_descriptor_inherited",
            "escape_by_descriptor_of_a_directory",
        ],
    },
    Row {
        technique: "A descriptor that another process passes on, or that is on its way when the policy comes",
        protects: "what is received is decided like an open",
        cases: &[
            "escape_by_descriptor_passed_on",
            "escape_by_descriptor_on_its_way",
        ],
    },
    Row {
        technique: "Paths, names and nesting beyond what others compare",
        protects: "whole paths of 4,095 bytes and 256 components; longer ones have a class",
        cases: &[
            "escape_by_path_of_4000_bytes",
            "escape_by_path_of_200_components",
        ],
    },
    Row {
        technique: "Mapped addresses, `0.0.0.0`, MPTCP, TCP Fast Open, `sendmmsg`, no family, io_uring",
        protects: "the address is that which the kernel takes it for, however it is named",
        cases: &["escape_by_another_way_to_an_address"],
    },
    Row {
        technique: "Names in upper case, over TCP, IPv6, other resolvers, unconnected sockets, in parts, by reference, \
             by `sendfile`, behind an urgent byte, behind extension headers, in fragments, several at once",
        protects: "the packet that leaves is what is decided; one that cannot be read is refused",
        cases: &["dns_queries_are_refused_however_they_are_sent"],
    },
    Row {
        technique: "A resolver on another port, which what balances load puts in the place of port 53",
        protects: "the port that was named counts as well",
        cases: &["dns_queries_to_another_port_are_refused"],
    },
    Row {
        technique: "The address of a forbidden name, from another program's answer or an earlier one",
        protects: "addresses in answers are remembered with the name, and speaking to them is decided by it",
        cases: &["dns_answers_are_held_to_as_long_as_they_count"],
    },
    Row {
        technique: "Sockets made before the policy",
        protects: "each use of a socket is decided",
        cases: &["sockets_from_before_a_policy_are_refused"],
    },
    Row {
        technique: "Flooding the events",
        protects: "a verdict does not depend on its event; what is lost is counted",
        cases: &["ring_full_changes_no_verdict_and_loses_no_count"],
    },
    Row {
        technique: "Preemption in the middle of a decision",
        protects: "scratch memory is claimed, never shared",
        cases: &["preempt_full_makes_no_wrong_verdict"],
    },
    Row {
        technique: "Killing, stopping or tracing the daemon from a privileged container, also by \
                    `F_SETOWN`, limits and priorities, opening its maps or programs, removing or moving \
                    its pins, mounting over them, writing to its files, `ftrace_enabled`",
        protects: "the enforcer's own is known by process, id and inode, and refused to containers",
        cases: &["enforcer_is_out_of_reach_of_containers"],
    },
    Row {
        technique: "The same as root on the host, with `--self-protection=host`",
        protects: "only the service manager and the enforcer's own program may",
        cases: &["enforcer_is_out_of_reach_of_the_host_on_demand"],
    },
    Row {
        technique: "Detaching programs by their links, with everything that BPF allows",
        protects: "links of LSM programs cannot be detached, and what sees packets has no link",
        cases: &["dns_programs_are_detached_by_nobody"],
    },
    Row {
        technique: "A program for the kernel to execute: `core_pattern`, `modprobe`",
        protects: "a container under a policy does not write there, also by a descriptor from before",
        cases: &[
            "escape_by_what_the_kernel_executes",
            "escape_by_descriptor_of_what_the_kernel_executes",
        ],
    },
    Row {
        technique: "The name of a program that host policies spare, in a user namespace",
        protects: "programs are spared as root, in mount namespaces of the host's",
        cases: &["escape_by_the_name_of_an_essential_program"],
    },
    Row {
        technique: "Killing the daemon",
        protects: "programs, links and maps are pinned",
        cases: &[
            "crash_of_the_daemon_opens_no_gap",
            "crash_of_the_daemon_frees_no_hard_link",
        ],
    },
    Row {
        technique: "Going to the host's mount namespace before the enforcer knows the container",
        protects: "who is in its cgroup by then is the container's, wherever it is",
        cases: &["runtime_is_nobody_who_was_there_before"],
    },
    Row {
        technique: "Acting while policies change",
        protects: "a workload is switched by one store",
        cases: &["swap_of_policies_under_load_opens_no_gap"],
    },
];

/// Techniques that get round a policy in this version.
pub(super) const OPEN: &[Open] = &[
    Open {
        technique: "A copy of a blocked program under another name",
        why: "it is another file",
        helps: "a whitelist of programs; rules for writable directories",
    },
    Open {
        technique: "An interpreter that reads a script from a file it may read, or from its input",
        why: "nothing is executed",
        helps: "a whitelist without interpreters; file rules",
    },
    Open {
        technique: "A mapping, or a file registered with io_uring and closed, from before the policy",
        why: "nothing asks when memory is read, and no process has the file open",
        helps: "start containers after their policies; the preset `ioUring`",
    },
    Open {
        technique: "The node's disks: the layers of a container mounted, or read as a device, by a \
                    privileged one",
        why: "what has no name in the container has none that a rule could mean",
        helps: "no devices, no `CAP_SYS_ADMIN`; the preset `mount`",
    },
    Open {
        technique: "Packets that go another way than they are sent: source routes, translation by the \
                    workload's own network namespace, headers written by hand",
        why: "rules about addresses see the address that is named",
        helps: "no `CAP_NET_ADMIN` and `CAP_NET_RAW`; network policies where packets leave the node",
    },
];
