//! `karmor vm policy confirm`.

use karmor_proto::karmor::v1::Verdict;

use super::{outcome, trial};
use crate::{connect::ConnectArgs, error::CommandResult, ui::Ui};

/// Keep policies that are on trial
///
/// Those of one `karmor vm policy add --confirm-within`. Exits with 6 when they are not on trial any
/// more: their time was over and they were taken back, somebody changed or removed them, or they are
/// confirmed already.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The trial, as `karmor vm policy add` printed it
    ///
    /// May be left out when there is only one.
    token: Option<String>,

    /// How to print what became of them
    #[arg(long, short, value_enum, default_value_t)]
    output: outcome::Output,

    #[command(flatten)]
    connect: ConnectArgs,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let token = self.token.as_deref();
        trial::settle(ui, &self.connect, self.output, token, Verdict::Keep)
    }
}
