//! `karmor policy explain`.

use std::path::PathBuf;

use karmor_abi::{
    limits::{PATH_BYTES, PATH_COMPONENTS},
    op::Op,
};
use karmor_policy::{
    alias::Aliases,
    explain::{Query, explain},
    model::{Kind, Policy, Posture},
    select::WorkloadKind,
};

use crate::{
    error::{CommandError, CommandResult},
    exit::Exit,
    policy_file,
    render::text::printable_lines,
    ui::Ui,
};

/// Tell how policies decide an access, and why
///
/// Shows the verdict, the rule that decides with its file and line, and every other rule about the
/// same object with the reason why it does not. All policies are taken to apply to the workload in
/// question, whatever they select; but those of containers and those of hosts are never about the
/// same process. An exec opens its file first, so it is refused where opening is.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("access").required(true))]
pub(crate) struct Args {
    /// Policy files, directories, or - for standard input
    #[arg(
        long = "file", short = 'f', value_name = "FILE|DIR|-", required = true, num_args = 1..,
        value_hint = clap::ValueHint::AnyPath
    )]
    files: Vec<PathBuf>,

    /// Execute this
    #[arg(long, value_name = "PATH", group = "access")]
    exec: Option<String>,

    /// Open this
    #[arg(long, value_name = "PATH", group = "access")]
    open: Option<String>,

    /// Open for writing instead of reading
    #[arg(long, requires = "open", conflicts_with = "exec")]
    write: bool,

    /// The executable that does it [default: one that no rule names]
    #[arg(long, value_name = "EXE")]
    from: Option<String>,

    /// The executable that started that one
    #[arg(long, value_name = "EXE")]
    parent: Option<String>,

    /// A process of the host does it, not one of a container; taken so if all policies are hosts'
    #[arg(long)]
    host: bool,

    /// The root has directories where others have the links /bin, /lib and so on into /usr
    #[arg(long)]
    no_merged_usr: bool,

    /// The user that does it
    #[arg(long, value_name = "N", default_value_t = 0)]
    uid: u32,

    /// The user that owns the object
    #[arg(long, value_name = "N", default_value_t = 0)]
    owner: u32,

    /// What happens where Allow rules make everything else the exception
    #[arg(long, value_enum, default_value_t)]
    posture: PostureArg,

    /// How to print the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum PostureArg {
    #[default]
    Audit,
    Block,
    Allow,
}

impl From<PostureArg> for Posture {
    fn from(posture: PostureArg) -> Self {
        match posture {
            PostureArg::Audit => Self::Audit,
            PostureArg::Block => Self::Block,
            PostureArg::Allow => Self::Allow,
        }
    }
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let mut query = self.query()?;
        let files = policy_file::read_compilable(ui, &self.files)?;
        let policies: Vec<_> = files
            .into_iter()
            .flat_map(|file| file.report.policies)
            .collect();
        let are_host = |policies: &[Policy]| policies.iter().all(|p| p.kind == Kind::Host);
        if self.host || (!policies.is_empty() && are_host(&policies)) {
            query.workload = WorkloadKind::Host;
        }
        let explanation = explain(&policies, &query);
        match self.output {
            Output::Json => ui.json(&explanation),
            Output::Text => ui.data(&printable_lines(&explanation.to_string())),
        }
    }

    fn query(&self) -> CommandResult<Query> {
        let (op, object) = match (&self.exec, &self.open) {
            (Some(path), _) => (Op::Exec, path),
            (None, Some(path)) if self.write => (Op::Write, path),
            (None, Some(path)) => (Op::Read, path),
            (None, None) => {
                return Err(CommandError::message(Exit::Usage, "say --exec or --open"));
            }
        };
        if object.starts_with('@') {
            class(object)?;
        } else {
            absolute(object)?;
        }
        for path in self.from.iter().chain(&self.parent).chain(&self.exec) {
            if path == "/" {
                let message = "`/` is a directory: nothing is executed by this name";
                return Err(CommandError::message(Exit::Usage, message));
            }
        }
        for path in self.from.iter().chain(&self.parent) {
            absolute(path)?;
        }
        Ok(Query {
            op,
            object: object.clone(),
            source: self.from.clone(),
            parent: self.parent.clone(),
            uid: self.uid,
            owner: self.owner,
            workload: WorkloadKind::Container,
            posture: self.posture.into(),
            // What the daemon assumes of every root as well.
            aliases: Aliases::merged_usr(),
            has_links: !self.no_merged_usr,
        })
    }
}

/// Objects without a path, as rules and the explanation name them.
const CLASSES: [&str; 3] = ["@anonymous", "@unreachable", "@too-long"];

fn class(object: &str) -> CommandResult {
    if CLASSES.contains(&object) {
        return Ok(());
    }
    let message = format!("there is no class of objects `{object}`");
    Err(CommandError::message(Exit::Usage, message)
        .hint(format!("allowed are {}", CLASSES.join(", "))))
}

/// Only what the kernel could name can be asked about: anything else would be answered with a
/// verdict that no access gets.
fn absolute(path: &str) -> CommandResult {
    let wrong = |what: &str, hint: String| {
        Err(CommandError::message(Exit::Usage, format!("`{path}` {what}")).hint(hint))
    };
    let Some(rest) = path.strip_prefix('/') else {
        return wrong(
            "is not an absolute path",
            "rules are about paths as the workload sees them, from its own root: /usr/bin/apt"
                .to_owned(),
        );
    };
    if !rest.is_empty() && rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return wrong(
            "is not how the kernel names it",
            "real paths have no `.`, `..` or `//`, and no `/` at their end: /usr/bin/apt"
                .to_owned(),
        );
    }
    if path.len() > PATH_BYTES || rest.split('/').count() > PATH_COMPONENTS {
        return Err(CommandError::message(
            Exit::Usage,
            format!("the path has more than {PATH_BYTES} bytes or {PATH_COMPONENTS} components"),
        )
        .hint("such objects are called `@too-long`"));
    }
    Ok(())
}
