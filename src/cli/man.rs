//! `sickbay man`: the manual, made of what `--help` is made of.

use clap::Args;

use super::{Exit, tell, tell_error};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The command whose page to print [default: sickbay itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, mut command: clap::Command) -> Exit {
    // Fills in what the pages of the commands have from this one.
    command.build();
    let mut page = &command;
    for name in &arguments.command {
        let Some(found) = page.find_subcommand(name) else {
            let known: Vec<&str> = page.get_subcommands().map(clap::Command::get_name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            tell_error(&format!(
                "error: \"{}\" has no command \"{name}\"; there are: {known}",
                page.get_display_name().unwrap_or(page.get_name())
            ));
            return Exit::Unusable;
        };
        page = found;
    }
    let mut text = Vec::new();
    match clap_mangen::Man::new(page.clone()).render(&mut text) {
        Ok(()) => tell(&String::from_utf8_lossy(&text)),
        Err(error) => {
            tell_error(&format!("error: the page cannot be made: {error}"));
            Exit::NotWell
        }
    }
}
