//! `karmor vm policy confirm`.

use karmor_proto::karmor::v1::Verdict;

use super::trial;
use crate::{error::CommandResult, ui::Ui};

/// Keep policies that are on trial
///
/// Those of one `karmor vm policy add --confirm-within`. Exits with 6 when they are not on trial any
/// more: their time was over and they were taken back, somebody changed or removed them, or they are
/// confirmed already.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    settle: trial::SettleArgs,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        trial::settle(ui, self.settle, Verdict::Keep)
    }
}
