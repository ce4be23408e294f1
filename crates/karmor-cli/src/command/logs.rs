//! `karmor logs`.

mod feed;
mod sink;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use self::{
    feed::{Ended, Event, Feed, Wanted},
    sink::Sink,
};
use crate::{
    connect::{Address, ConnectArgs, block_on},
    error::{CommandError, CommandResult},
    exit::Exit,
    render::event,
    ui::Ui,
};

/// The first and the longest pause before another attempt to reach the daemon.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Follow the alerts and logs of the daemon
///
/// Runs until it is interrupted. When the connection is lost it says so and connects again; what
/// happens in between is not shown.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectArgs,

    /// What to show
    #[arg(long = "logFilter", value_enum, default_value_t, value_name = "FILTER")]
    log_filter: LogFilter,

    /// Where to write alerts and logs: stdout, none or a file, which is appended to
    #[arg(long = "logPath", default_value = "stdout", value_name = "PATH")]
    log_path: Sink,

    /// Where to write messages of the daemon: stdout, none or a file
    #[arg(long = "msgPath", default_value = "none", value_name = "PATH")]
    msg_path: Sink,

    /// How to print an event
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    /// One JSON object a line, the same as -o json
    #[arg(long)]
    json: bool,

    /// Stop after so many alerts and logs were printed; 0 stands for no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum LogFilter {
    /// Alerts: what policies refuse or audit
    #[default]
    Policy,
    /// Logs: what no policy speaks of
    System,
    /// Both
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A block of lines an event
    #[default]
    Text,
    /// One JSON object a line
    Json,
    /// Indented JSON
    PrettyJson,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let wanted = Wanted {
            alerts: filter(self.log_filter, LogFilter::Policy, "policy", &self.log_path),
            logs: filter(self.log_filter, LogFilter::System, "system", &self.log_path),
            messages: self.msg_path != Sink::None,
        };
        if self.log_path == Sink::None && self.msg_path == Sink::None {
            return Err(CommandError::message(
                Exit::Usage,
                "with both --logPath and --msgPath none there is nothing to show",
            ));
        }
        let address = self.connect.address()?;
        let mut printer = Printer {
            output: if self.json { Output::Json } else { self.output },
            events: self.log_path.open()?,
            messages: self.msg_path.open()?,
            left: (self.limit > 0).then_some(self.limit),
        };
        block_on(async {
            tokio::select! {
                result = follow(ui, &address, wanted, &mut printer) => result,
                result = interrupted() => result,
            }
        })
    }
}

/// The filter to ask the server for, or `None` when its kind of event is not wanted.
fn filter(
    asked: LogFilter,
    kind: LogFilter,
    name: &'static str,
    sink: &Sink,
) -> Option<&'static str> {
    match asked {
        _ if *sink == Sink::None => None,
        LogFilter::All => Some("all"),
        asked if asked == kind => Some(name),
        _ => None,
    }
}

/// Ends well when the user, or whoever supervises us, has had enough.
async fn interrupted() -> CommandResult {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            CommandError::new(
                Exit::Failed,
                anyhow::Error::new(error).context("cannot catch signals"),
            )
        })
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = quit.recv() => {}
    }
    Ok(())
}

/// Prints until the limit is reached. Only the first connection has to succeed at once.
async fn follow(
    ui: &mut Ui,
    address: &Address,
    wanted: Wanted,
    printer: &mut Printer,
) -> CommandResult {
    let mut pause = BACKOFF.0;
    let mut feed = Feed::open(address, wanted)
        .await
        .map_err(|not_opened| not_opened.error)?;
    ui.status(format_args!("connected to {address}"));
    loop {
        match feed.next().await {
            Ok(event) => {
                pause = BACKOFF.0;
                printer.print(ui, &event)?;
                if printer.left == Some(0) {
                    return Ok(());
                }
            }
            Err(Ended::Refused(error)) => return Err(error),
            Err(Ended::Lost(why)) => {
                ui.warning(format_args!(
                    "the connection to {address} is lost ({why}); what happens until it is back is \
                     not shown"
                ));
                feed = reopen(ui, address, wanted, &mut pause).await?;
                ui.status(format_args!("connected again to {address}"));
            }
        }
    }
}

/// Tries until it succeeds or is refused for good, at growing intervals: those grow on when a connection is lost before
/// anything came over it.
async fn reopen(
    ui: &mut Ui,
    address: &Address,
    wanted: Wanted,
    pause: &mut Duration,
) -> CommandResult<Feed> {
    loop {
        ui.status(format_args!(
            "connecting again in {} s",
            pause.as_secs_f32()
        ));
        tokio::time::sleep(*pause).await;
        *pause = BACKOFF.1.min(*pause * 2);
        match Feed::open(address, wanted).await {
            Ok(feed) => return Ok(feed),
            Err(not_opened) if not_opened.is_refused => return Err(not_opened.error),
            Err(not_opened) => ui.status(not_opened.error.text().unwrap_or_default()),
        }
    }
}

/// Writes events where they belong.
struct Printer {
    output: Output,
    events: sink::Open,
    messages: sink::Open,
    /// Events until the limit.
    left: Option<u64>,
}

impl Printer {
    fn print(&mut self, ui: &mut Ui, event: &Event) -> CommandResult {
        let text = match self.output {
            Output::Text => match event {
                Event::Alert(alert) => event::alert(alert),
                Event::Log(log) => event::log(log),
                Event::Message(message) => event::message(message),
            },
            Output::Json => json(serde_json::to_string(event))?,
            Output::PrettyJson => json(serde_json::to_string_pretty(event))?,
        };
        if matches!(event, Event::Message(_)) {
            return self.messages.write(ui, &text);
        }
        self.events.write(ui, &text)?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(())
    }
}

fn json(text: serde_json::Result<String>) -> CommandResult<String> {
    text.map(|text| text + "\n")
        .map_err(|error| CommandError::new(Exit::Failed, error))
}
