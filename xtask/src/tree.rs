//! A file tree in memory, read from Debian packages and written as an initramfs or an image layer.
//!
//! Owners and modes come from the packages' own archives, so building one needs no root.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Directories that a merged-usr system reaches through symbolic links.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Documentation, translations and character sets: megabytes that no test opens.
const LEFT_OUT: [&str; 9] = [
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zoneinfo",
];

#[derive(Clone, Debug)]
enum Kind {
    Directory,
    /// Names that share the content are names of one file.
    File(Rc<[u8]>),
    Symlink(String),
    CharDevice {
        major: u32,
        minor: u32,
    },
}

#[derive(Clone, Debug)]
struct Node {
    /// Permission bits only; the type is in `kind`.
    mode: u32,
    uid: u32,
    gid: u32,
    kind: Kind,
}

/// Paths (without leading slash, parents always present) and what is there.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// An empty merged-usr root.
    pub(crate) fn merged_usr() -> Self {
        let mut tree = Self::default();
        for name in MERGED {
            tree.directory(&format!("usr/{name}"), 0o755);
            tree.symlink(name, &format!("usr/{name}"));
        }
        tree
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.insert(
            path,
            Node {
                mode,
                uid: 0,
                gid: 0,
                kind: Kind::Directory,
            },
        );
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl Into<Rc<[u8]>>) {
        self.insert(
            path,
            Node {
                mode,
                uid: 0,
                gid: 0,
                kind: Kind::File(content.into()),
            },
        );
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        let kind = Kind::Symlink(target.to_owned());
        self.insert(
            path,
            Node {
                mode: 0o777,
                uid: 0,
                gid: 0,
                kind,
            },
        );
    }

    pub(crate) fn char_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        let kind = Kind::CharDevice { major, minor };
        self.insert(
            path,
            Node {
                mode,
                uid: 0,
                gid: 0,
                kind,
            },
        );
    }

    /// Gives a file that is in the tree another name.
    pub(crate) fn hard_link(&mut self, path: &str, file: &str) -> Result<()> {
        let node = self.nodes.get(file).cloned();
        self.insert(path, node.with_context(|| format!("there is no {file}"))?);
        Ok(())
    }

    /// The content of a file that is in the tree.
    pub(crate) fn content(&self, path: &str) -> Option<&[u8]> {
        match &self.nodes.get(path)?.kind {
            Kind::File(content) => Some(content),
            Kind::Directory | Kind::Symlink(_) | Kind::CharDevice { .. } => None,
        }
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// Removes one file.
    pub(crate) fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
    }

    /// Copies a file of this machine.
    pub(crate) fn host_file(&mut self, path: &str, mode: u32, host: &Path) -> Result<()> {
        let content =
            std::fs::read(host).with_context(|| format!("cannot read {}", host.display()))?;
        self.file(path, mode, content);
        Ok(())
    }

    /// Unpacks the files of a Debian package over what is there.
    pub(crate) fn package(&mut self, deb: &Path) -> Result<()> {
        let mut command = Command::new("dpkg-deb");
        command
            .arg("--fsys-tarfile")
            .arg(deb)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let text = shell::display(&command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{text}`"))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let read = self
            .archive(stdout)
            .with_context(|| format!("cannot read {}", deb.display()));
        let status = child
            .wait()
            .with_context(|| format!("cannot wait for `{text}`"))?;
        read?;
        if !status.success() {
            bail!("`{text}` failed ({status})");
        }
        Ok(())
    }

    fn archive(&mut self, reader: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = merged(&String::from_utf8_lossy(&entry.path_bytes()));
            let left_out = LEFT_OUT
                .iter()
                .any(|prefix| Path::new(&path).starts_with(prefix));
            if path.is_empty() || MERGED.contains(&path.as_str()) || left_out {
                continue;
            }
            let header = entry.header();
            let id = |id: u64| u32::try_from(id).context("an owner's id has 32 bits");
            let (mode, uid, gid) = (
                header.mode()? & 0o7777,
                id(header.uid()?)?,
                id(header.gid()?)?,
            );
            let link = || -> Result<String> {
                let target = entry.link_name_bytes().context("a link has a target")?;
                Ok(String::from_utf8_lossy(&target).into_owned())
            };
            let kind = match header.entry_type() {
                tar::EntryType::Directory => Kind::Directory,
                tar::EntryType::Symlink => Kind::Symlink(link()?),
                tar::EntryType::Link => match self.nodes.get(&merged(&link()?)) {
                    Some(node) => node.kind.clone(),
                    None => bail!("{path} is a hard link to a missing file"),
                },
                tar::EntryType::Regular => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    Kind::File(content.into())
                }
                other => bail!("{path} is of an unexpected type: {other:?}"),
            };
            self.insert(
                &path,
                Node {
                    mode,
                    uid,
                    gid,
                    kind,
                },
            );
        }
        // What follows the end marker is padding; dpkg-deb must be able to write it.
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
        Ok(())
    }

    fn insert(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        let mut parent = path;
        while let Some((above, _)) = parent.rsplit_once('/') {
            parent = above;
            self.nodes.entry(parent.to_owned()).or_insert(Node {
                mode: 0o755,
                uid: 0,
                gid: 0,
                kind: Kind::Directory,
            });
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Writes the tree as a cpio archive in the `newc` format, which the kernel unpacks.
    ///
    /// Several archives may follow each other in one initramfs; later files win. Other names of a
    /// file become copies of it.
    pub(crate) fn write_cpio(&self, out: &mut dyn Write) -> Result<()> {
        for (inode, (path, node)) in self.nodes.iter().enumerate() {
            let (kind, content, device): (u32, &[u8], (u32, u32)) = match &node.kind {
                Kind::Directory => (0o040_000, &[], (0, 0)),
                Kind::File(content) => (0o100_000, content, (0, 0)),
                Kind::Symlink(target) => (0o120_000, target.as_bytes(), (0, 0)),
                Kind::CharDevice { major, minor } => (0o020_000, &[], (*major, *minor)),
            };
            let inode = u32::try_from(inode + 1).context("too many files for an initramfs")?;
            cpio_entry(
                out,
                path,
                inode,
                kind | node.mode,
                (node.uid, node.gid),
                device,
                content,
            )?;
        }
        cpio_entry(out, "TRAILER!!!", 0, 0, (0, 0), (0, 0), &[])
    }

    /// Writes the tree as a tar archive: a container image's layer.
    pub(crate) fn write_tar(&self, out: &mut dyn Write) -> Result<()> {
        let mut builder = tar::Builder::new(out);
        let mut written = HashMap::new();
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_gnu();
            header.set_mode(node.mode);
            header.set_uid(u64::from(node.uid));
            header.set_gid(u64::from(node.gid));
            header.set_mtime(0);
            header.set_size(0);
            match &node.kind {
                Kind::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Kind::File(content) if written.contains_key(&Rc::as_ptr(content)) => {
                    header.set_entry_type(tar::EntryType::Link);
                    builder.append_link(&mut header, path, written[&Rc::as_ptr(content)])?;
                }
                Kind::File(content) => {
                    written.insert(Rc::as_ptr(content), path);
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(content.len() as u64);
                    builder.append_data(&mut header, path, &content[..])?;
                }
                Kind::Symlink(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, path, target)?;
                }
                Kind::CharDevice { major, minor } => {
                    header.set_entry_type(tar::EntryType::Char);
                    header.set_device_major(*major)?;
                    header.set_device_minor(*minor)?;
                    builder.append_data(&mut header, path, std::io::empty())?;
                }
            }
        }
        builder.finish()?;
        Ok(())
    }
}

/// A package's path in a merged-usr tree.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    let path = if path == "." { "" } else { path };
    match path.split_once('/') {
        Some((first, _)) if MERGED.contains(&first) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

fn cpio_entry(
    out: &mut dyn Write,
    name: &str,
    inode: u32,
    mode: u32,
    (uid, gid): (u32, u32),
    (device_major, device_minor): (u32, u32),
    content: &[u8],
) -> Result<()> {
    let size = u32::try_from(content.len())
        .with_context(|| format!("{name} is too big for an initramfs"))?;
    let name_size = u32::try_from(name.len() + 1).context("a name is short")?;
    let mut header = String::from("070701");
    #[rustfmt::skip]
    let fields = [
        inode, mode, uid, gid, /* links */ 1, /* mtime */ 0, size,
        /* device it is on */ 0, 0, device_major, device_minor, name_size, /* check */ 0,
    ];
    for field in fields {
        header.push_str(&format!("{field:08X}"));
    }
    out.write_all(header.as_bytes())?;
    out.write_all(name.as_bytes())?;
    // The name's NUL, and both parts padded to four bytes.
    out.write_all(&[0; 4][..1 + padding(header.len() + name.len() + 1)])?;
    out.write_all(content)?;
    out.write_all(&[0; 4][..padding(content.len())])?;
    Ok(())
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Tree {
        let mut tree = Tree::merged_usr();
        tree.file("usr/bin/tool", 0o755, *b"hello");
        tree.symlink("etc/link", "/usr/bin/tool");
        tree.hard_link("usr/bin/other", "usr/bin/tool")
            .expect("the file is there");
        tree.char_device("dev/console", 0o600, 5, 1);
        tree
    }

    #[test]
    fn the_kernels_archiver_reads_what_we_write() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let archive = directory.path().join("x.cpio");
        let mut bytes = Vec::new();
        example().write_cpio(&mut bytes).expect("written");
        std::fs::write(&archive, &bytes).expect("written");
        // busybox's cpio is on every machine the rig was set up on; elsewhere the format's own
        // invariants below still hold.
        let mut command = Command::new("busybox");
        command.args(["cpio", "-t", "-F"]).arg(&archive);
        if let Ok(list) = shell::capture_text(&mut command) {
            for name in ["bin", "dev/console", "etc/link", "usr/bin/tool"] {
                assert!(
                    list.lines().any(|line| line == name),
                    "{name} is not in {list}"
                );
            }
        }
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701"));
    }

    #[test]
    fn a_layer_survives_the_way_through_tar() {
        let mut bytes = Vec::new();
        example().write_tar(&mut bytes).expect("written");
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths: Vec<String> = archive
            .entries()
            .expect("an archive")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .path()
                    .expect("a path")
                    .display()
                    .to_string()
            })
            .collect();
        let parent = paths
            .iter()
            .position(|path| path == "usr/bin/")
            .expect("parents are there");
        let child = paths
            .iter()
            .position(|path| path == "usr/bin/tool")
            .expect("the file");
        assert!(parent < child, "{paths:?}");
        let mut archive = tar::Archive::new(&bytes[..]);
        let links = archive.entries().expect("an archive").filter(|entry| {
            let header = entry.as_ref().expect("an entry").header();
            header.entry_type() == tar::EntryType::Link
        });
        assert_eq!(links.count(), 1, "two names, one file");
    }

    #[test]
    fn packages_land_in_merged_directories() {
        assert_eq!(merged("./bin/sh"), "usr/bin/sh");
        assert_eq!(merged("./usr/bin/apt"), "usr/bin/apt");
        assert_eq!(merged("./lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(merged("./binary/x"), "binary/x");
        assert_eq!(merged("./"), "");
        assert_eq!(merged("./bin/"), "bin");
    }
}
