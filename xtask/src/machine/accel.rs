//! How QEMU runs guest code on this machine.

/// A way of running guest code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Accel {
    /// The processor's virtualisation.
    Kvm,
    /// Emulation, one thread per CPU.
    Tcg,
    /// Emulation where guest time counts guest instructions.
    Counting,
}

impl Accel {
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max"],
            Self::Counting => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                "-cpu",
                "max",
            ],
        }
    }
}
