//! The container images the guest runs, made on the spot: no registry is asked for anything.
//!
//! They lie in the guest as `/images/NAME.tar`, in the layout of `docker save`.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::root::{busybox_applets, is_needed};
use crate::{
    cache::{self, Cache},
    debian::{Apt, Pool},
    tree::Tree,
    ui,
};

/// Counts up when the recipes below change in a way that the package lists do not show.
const RECIPE: &str = "2";

/// A container image.
struct Image {
    name: &'static str,
    reference: &'static str,
    packages: &'static [&'static str],
    /// Its `app` label, which policies select.
    app: &'static str,
}

const IMAGES: [Image; 2] = [
    Image {
        name: "busybox",
        reference: "localhost/karmor/busybox:latest",
        packages: &["busybox-static"],
        app: "busybox",
    },
    Image {
        name: "debian",
        reference: "localhost/karmor/debian:latest",
        packages: &[
            "apt",
            "bash",
            "coreutils",
            "dash",
            "dpkg",
            "findutils",
            "grep",
            "nginx",
            "sed",
            "wget",
        ],
        // The example policies of the field select `app: nginx`.
        app: "nginx",
    },
];

/// The directory of the images' archives, from the cache or built now.
pub(crate) fn images(cache: &Cache) -> Result<PathBuf> {
    let path = path(cache);
    if path.is_dir() {
        return Ok(path);
    }
    ui::status("building the container images from Debian packages");
    let apt = Apt::open(cache, Pool::Release)?;
    // All of them or none: a directory appears only when it is complete.
    let building = tempfile::tempdir_in(cache.directory("guest")?)
        .context("cannot create a directory in the cache")?;
    for image in &IMAGES {
        let root = image
            .root(&apt)
            .with_context(|| format!("cannot build the image {}", image.name))?;
        let file = building.path().join(format!("{}.tar", image.name));
        fs::write(&file, image.archive(&root)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    fs::rename(building.keep(), &path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// Where they are.
pub(super) fn path(cache: &Cache) -> PathBuf {
    let images = IMAGES.iter().flat_map(|image| {
        [image.name, image.reference, image.app]
            .into_iter()
            .chain(image.packages.iter().copied())
    });
    cache.join(format!(
        "guest/images-{}",
        cache::key([RECIPE].into_iter().chain(images))
    ))
}

impl Image {
    /// The image's files.
    fn root(&self, apt: &Apt) -> Result<Tree> {
        let mut tree = Tree::merged_usr();
        for deb in apt
            .download(self.packages)?
            .iter()
            .filter(|deb| is_needed(deb, self.packages))
        {
            tree.package(deb)?;
        }
        for path in [
            "dev",
            "proc",
            "sys",
            "run",
            "root",
            "home",
            "var/tmp",
            "var/log/nginx",
        ] {
            tree.directory(path, 0o755);
        }
        tree.directory("tmp", 0o1777);
        tree.symlink("var/run", "/run");
        tree.file("etc/passwd", 0o644, PASSWD.as_bytes());
        tree.file("etc/group", 0o644, GROUP.as_bytes());
        tree.file("etc/shadow", 0o640, *b"root:*:19000:0:99999:7:::\n");
        if self.packages.contains(&"busybox-static") {
            busybox_applets(&mut tree)?;
        } else {
            // What dash's maintainer script does.
            tree.symlink("usr/bin/sh", "dash");
            // Files with two names from the start.
            tree.file("opt/image/secret", 0o644, *b"secret\n");
            tree.hard_link("opt/image/other-name", "opt/image/secret")?;
            tree.hard_link("opt/image/tool", "usr/bin/true")?;
        }
        Ok(tree)
    }

    /// The image as `docker save` writes it: a manifest, a configuration and one layer.
    fn archive(&self, root: &Tree) -> Result<Vec<u8>> {
        let mut layer = Vec::new();
        root.write_tar(&mut layer)?;
        let digest = cache::hex(&Sha256::digest(&layer));
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["/bin/sh"],
                "Labels": { "app": self.app },
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
            "history": [],
        });
        let config = serde_json::to_vec(&config).context("an image's configuration is JSON")?;
        let config_name = format!("{}.json", cache::hex(&Sha256::digest(&config)));
        let manifest = json!([{
            "Config": config_name,
            "RepoTags": [self.reference],
            "Layers": ["layer.tar"],
        }]);
        let mut archive = Tree::default();
        archive.file(&config_name, 0o644, config);
        archive.file("layer.tar", 0o644, layer);
        let manifest = serde_json::to_vec(&manifest).context("an image's manifest is JSON")?;
        archive.file("manifest.json", 0o644, manifest);
        let mut bytes = Vec::new();
        archive.write_tar(&mut bytes)?;
        Ok(bytes)
    }
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534::/:/bin/false
";

const GROUP: &str = "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n";
