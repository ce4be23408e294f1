//! Reading the kernel console: how the command ended, and whether the kernel broke.

/// What init prints before the exit code.
pub(crate) const VERDICT: &str = "karmor-verdict: exit";

/// Texts that mean the kernel is broken, whatever the command returned.
const BROKEN: [&str; 8] = [
    "Kernel panic - not syncing",
    "BUG: ",
    "soft lockup",
    "hard LOCKUP",
    "rcu: INFO: rcu_",
    "blocked for more than",
    "general protection fault",
    "Oops: ",
];

/// What the console told so far.
#[derive(Debug, Default)]
pub(crate) struct Console {
    /// Everything, as text.
    pub(crate) log: String,
    line: Vec<u8>,
    /// The command's exit code, once init printed it.
    pub(crate) verdict: Option<i32>,
    /// The lines that show a broken kernel.
    pub(crate) broken: Vec<String>,
}

impl Console {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else if *byte != b'\r' {
                self.line.push(*byte);
            }
        }
    }

    /// Takes what is left without a line end.
    pub(crate) fn end_line(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if let Some((_, code)) = line.split_once(VERDICT) {
            self.verdict = code.trim().parse().ok();
        } else if BROKEN.iter().any(|marker| line.contains(marker)) {
            self.broken.push(line.clone());
        }
        self.log.push_str(&line);
        self.log.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_verdict_in_a_line_that_comes_in_pieces() {
        let mut console = Console::default();
        console.feed(b"[    1.0] karmor-ver");
        assert_eq!(console.verdict, None);
        console.feed(b"dict: exit 3\r\n[    1.1] reboot: Power down\r\n");
        assert_eq!(console.verdict, Some(3));
        assert!(console.broken.is_empty());
    }

    #[test]
    fn a_broken_kernel_is_seen_beside_a_good_verdict() {
        let mut console = Console::default();
        console.feed(b"[ 2.0] BUG: kernel NULL pointer dereference\n karmor-verdict: exit 0\n");
        assert_eq!(console.verdict, Some(0));
        assert_eq!(console.broken.len(), 1);
    }
}
