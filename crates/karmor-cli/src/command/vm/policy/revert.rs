//! `karmor vm policy revert`.

use karmor_proto::karmor::v1::Verdict;

use super::trial;
use crate::{error::CommandResult, ui::Ui};

/// Take policies that are on trial back at once
///
/// Those of one `karmor vm policy add --confirm-within`: everything is as it was before, without
/// waiting for its time to be over. Exits with 6 when they are not on trial any more.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    settle: trial::SettleArgs,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        trial::settle(ui, self.settle, Verdict::Revert)
    }
}
