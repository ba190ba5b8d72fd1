//! The one binary.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use k3s_registry_agent::args::{Cli, Command, LogFormat, Output};
use k3s_registry_agent::commands::{
    Answer, Code, agent, apply, coordinator, diff, explain, import, lint, operate, plan, probe, render, status,
};
use k3s_registry_agent::logging::{self, Format, Lossy};
use k3s_registry_agent::pass::Chain;

fn main() -> ExitCode {
    // A core file would hold every secret that was read. There is no kernel on which this can fail.
    let _ = nix::sys::prctl::set_dumpable(false);
    let cli = parsed();
    let format = match cli.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    // A command shows what came of it; only what runs for ever says what changes as it goes.
    let filter =
        cli.log.as_deref().or((!matches!(cli.command, Command::Agent(_) | Command::Coordinator(_))).then_some("warn"));
    let lossy = match logging::init(format, filter) {
        Ok(lossy) => lossy,
        Err(error) => return fault(&error),
    };
    // One thread: the agent waits nearly all the time, and a node may have one slow core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(run(&cli.command, &lossy)),
        Err(error) => fault(&error),
    };
    lossy.flush(Duration::from_secs(1));
    code
}

/// The command line. As a plugin of kubectl the program has kubectl's name for it in its usage.
fn parsed() -> Cli {
    let name = std::env::args_os().next().map(PathBuf::from);
    let is_plugin = name.as_deref().and_then(Path::file_name).is_some_and(|name| name == "kubectl-registries");
    let command = Cli::command();
    let command = if is_plugin { command.bin_name("kubectl registries") } else { command };
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

async fn run(command: &Command, lossy: &Lossy) -> ExitCode {
    let (answer, output) = match command {
        Command::Agent(args) => {
            return match agent::agent(args, lossy).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fault(&error),
            };
        }
        Command::Coordinator(args) => {
            return match coordinator::coordinator(args, lossy).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fault(&error),
            };
        }
        Command::Apply(args) => (apply::apply(args).await.map_err(|error| fault(&error)), args.output),
        Command::Restore(args) => (apply::restore(args).await.map_err(|error| fault(&error)), args.output),
        Command::Status(args) => (status::status(args).await.map_err(|error| fault(&error)), args.output),
        Command::Plan(args) => (plan::plan(args).await.map_err(|error| fault(&error)), args.output),
        Command::Explain(args) => (explain::explain(args).await.map_err(|error| fault(&error)), args.output),
        Command::Pause(args) => (operate::pause(args, true).await.map_err(|error| fault(&error)), args.output),
        Command::Resume(args) => (operate::pause(args, false).await.map_err(|error| fault(&error)), args.output),
        Command::Retry(args) => (operate::retry(args).await.map_err(|error| fault(&error)), args.output),
        Command::Diff(args) => (diff::diff(args).await.map_err(|error| fault(&error)), args.output),
        Command::Render(args) => {
            (render::render(args).map_err(|error| fault(&error)), Output::or_place(args.output.as_deref()).0)
        }
        Command::Lint(args) => (lint::lint(args).map_err(|error| fault(&error)), args.output),
        Command::Probe(args) => (probe::probe(args).await.map_err(|error| fault(&error)), args.output),
        Command::Import(args) => {
            (import::import(args).map_err(|error| fault(&error)), Output::or_place(args.output.as_deref()).0)
        }
    };
    match answer {
        Ok(answer) => show(&answer, output),
        Err(code) => code,
    }
}

fn show(answer: &Answer, output: Output) -> ExitCode {
    let shown = answer.show(output);
    // A reader that went away is no fault of what was done.
    let written = std::io::stdout().lock().write_all(shown.as_bytes());
    match written {
        Ok(()) => answer.code.into(),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => answer.code.into(),
        Err(error) => fault(&Unshown(error)),
    }
}

/// What was to be done is done, and its result cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to the standard output")]
struct Unshown(#[source] std::io::Error);

fn fault(error: &dyn std::error::Error) -> ExitCode {
    // Nothing is left to be done if even this cannot be written.
    let _ = writeln!(std::io::stderr().lock(), "error: {}", Chain(error));
    Code::Fault.into()
}
