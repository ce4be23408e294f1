//! Setting a machine up for everything else here.
//!
//! ```text
//! needs      what must be there, how to see that it is, how to get it
//! apt        installing Debian packages without touching the system's sources
//! toolchain  the compiler and linker of the kernel half
//! ```

mod apt;
mod needs;
mod toolchain;

use std::fs;

use anyhow::{Context, Result, bail};

use self::needs::Need;
pub(crate) use self::toolchain::{LINKED, Toolchain};
use crate::{
    cache::Cache,
    debian, guest,
    kernel::{Kernel, Series},
    ui,
};

/// What is missing, in words.
pub(crate) fn missing(cache: &Cache, kernels: &[Series]) -> Result<Vec<String>> {
    let mut missing: Vec<String> = needs::missing(cache)
        .into_iter()
        .map(Need::explanation)
        .collect();
    for series in kernels {
        if Kernel::cached(cache, *series)?.is_none() {
            missing.push(format!(
                "a {series} kernel: a Debian package, downloaded by the set-up"
            ));
        }
    }
    if !guest::is_built(cache) {
        missing.push("the VM's files: Debian packages, downloaded by the set-up".to_owned());
    }
    Ok(missing)
}

/// Brings in whatever is missing; says nothing when nothing is.
pub(crate) fn ensure(cache: &Cache, kernels: &[Series]) -> Result<()> {
    let missing = needs::missing(cache);
    if !missing.is_empty() {
        supported()?;
        let (packages, others): (Vec<Need>, Vec<Need>) = missing
            .into_iter()
            .partition(|need| !need.packages().is_empty());
        apt::install(cache, &packages)?;
        for need in others {
            need.provide(cache)?;
        }
        // Packages may have been all that was missing for one of the others.
        for need in needs::missing(cache) {
            need.provide(cache).with_context(|| need.explanation())?;
        }
    }
    for series in kernels {
        Kernel::get(cache, *series)?;
    }
    guest::base(cache)?;
    guest::images(cache)?;
    Ok(())
}

/// Refuses, with everything there is to do by hand, where the packages' names are not known.
fn supported() -> Result<()> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let field = |name: &str| os_release(&text, name);
    if field("ID") == "debian" && field("VERSION_CODENAME") == debian::RELEASE {
        return Ok(());
    }
    bail!(
        "the set-up knows Debian 12 ({}) on amd64; this is {}.\n\
         `cargo xtask setup --check` lists what is missing here and how to get it",
        debian::RELEASE,
        field("PRETTY_NAME"),
    )
}

fn os_release<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .map_or("", |value| value.trim_matches('"'))
}

/// Prints what is missing; whether nothing is.
pub(crate) fn report(cache: &Cache, kernels: &[Series]) -> Result<bool> {
    let missing = missing(cache, kernels)?;
    if missing.is_empty() {
        ui::line("nothing is missing");
        return Ok(true);
    }
    for text in &missing {
        ui::line(&format!("missing: {text}"));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_os_release() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nID_LIKE=x\n";
        assert_eq!(os_release(text, "ID"), "debian");
        assert_eq!(os_release(text, "PRETTY_NAME"), "Debian GNU/Linux 12");
        assert_eq!(os_release(text, "VERSION_CODENAME"), "");
    }
}
