//! `ottla`: the broker and its tools in one binary.
//!
//! Owns: the command line, exit codes, what is printed. Must not know: how anything is done; each
//! file under `command` translates between arguments and a library.

mod command;
mod connect;
mod exit;
mod line;
mod logging;
mod settings;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

/// Apache Kafka's protocol, storage and tools in one binary
#[derive(Parser, Debug)]
#[command(name = "ottla", version, after_help = exit::EXIT_CODES, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    logging: logging::Logging,
    #[command(subcommand)]
    command: command::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = cli.logging.start().and_then(|()| cli.command.run());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ottla: {failure}");
            failure.code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    fn parse(line: &str) -> Result<command::Command, clap::error::ErrorKind> {
        let arguments = line.split_whitespace();
        Cli::try_parse_from(arguments).map(|cli| cli.command).map_err(|error| error.kind())
    }

    #[test]
    fn command_lines_are_read() {
        for line in [
            "ottla start --config server.properties --set a=b --set c=d --log-format json",
            "ottla start --adopt --set log.dirs=/data",
            "ottla stop --data-dir /data --timeout 5",
            "ottla status --bootstrap a:1,b:2 --json",
            "ottla config show --origin --config server.properties",
            "ottla topic create t --partitions 3 --replication-factor 1 --config a=b=c",
            "ottla topic --bootstrap a:1 list",
            "ottla topic list --bootstrap a:1",
            "ottla topic describe",
            "ottla produce t --key-separator : --header a=b --header a=c --acks -1",
            "ottla consume t --offset -5 --partition 0 -n 1",
            "ottla consume t --group g --from-beginning --exit-at-end",
            "ottla consume t --print-key --print-offset --key-separator |",
            "ottla log dump a.log,b.index c.log --print-data-log --skip-record-metadata",
            "ottla log dump a.log --offsets-decoder --max-message-size 5242880 --json",
            "ottla log verify /data /data2 --shallow --json",
            "ottla log repair /data --skip-damaged --yes",
            "ottla keeper snapshot --keeper a:1,b:2 --to /backup/monday",
            "ottla keeper restore /backup/monday --data-dir /data",
            "ottla keeper recover --data-dir /data --yes",
            "ottla keeper recover --data-dir /data --dry-run",
            "ottla keeper import --from a:1,b/kafka --data-dir /data --auth digest:u:p --auth x:y",
            "ottla keeper export --from a --to b:2/x --max-writes 5 --auth sasl:u:p:q",
            "ottla keeper export --data-dir /data --to b:2",
            "ottla log repair /data --truncate-damaged --dry-run --index-interval-bytes 1",
        ] {
            if let Err(kind) = parse(line) {
                panic!("{line}: {kind:?}");
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        use clap::error::ErrorKind;
        for (line, expected) in [
            ("ottla", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("ottla --version", ErrorKind::DisplayVersion),
            ("ottla topic create", ErrorKind::MissingRequiredArgument),
            ("ottla topic delete", ErrorKind::MissingRequiredArgument),
            ("ottla topic create t --partitions 0", ErrorKind::ValueValidation),
            ("ottla topic create t --config a", ErrorKind::ValueValidation),
            ("ottla produce t --acks 2", ErrorKind::InvalidValue),
            ("ottla produce t --json --key-separator :", ErrorKind::ArgumentConflict),
            ("ottla produce t --partition -1", ErrorKind::UnknownArgument),
            ("ottla consume t --offset x", ErrorKind::ValueValidation),
            ("ottla consume t --from-beginning --offset 1", ErrorKind::ArgumentConflict),
            ("ottla consume t --group g --partition 1", ErrorKind::ArgumentConflict),
            ("ottla consume t --json --print-key", ErrorKind::ArgumentConflict),
            ("ottla stop --data-dir a --config b", ErrorKind::ArgumentConflict),
            ("ottla config show --log-format xml", ErrorKind::InvalidValue),
            ("ottla keeper restore f", ErrorKind::MissingRequiredArgument),
            ("ottla keeper recover --data-dir d --yes --dry-run", ErrorKind::ArgumentConflict),
            ("ottla keeper import --from a:b --data-dir d", ErrorKind::ValueValidation),
            ("ottla keeper import --from a --data-dir d --auth digest", ErrorKind::ValueValidation),
            ("ottla keeper import --from a --data-dir d --auth sasl:u", ErrorKind::ValueValidation),
            ("ottla keeper export --to a", ErrorKind::MissingRequiredArgument),
            ("ottla keeper export --to a --from b --data-dir d", ErrorKind::ArgumentConflict),
            ("ottla log dump", ErrorKind::MissingRequiredArgument),
            ("ottla log verify", ErrorKind::MissingRequiredArgument),
            ("ottla log repair d --yes --dry-run", ErrorKind::ArgumentConflict),
            ("ottla log repair d --skip-damaged --truncate-damaged", ErrorKind::ArgumentConflict),
        ] {
            assert_eq!(parse(line).err(), Some(expected), "{line}");
        }
    }

    #[test]
    fn consumers_begin_where_they_are_told() {
        use ottla_client::{Offset, Position};
        let start = |line: &str| match parse(line).unwrap() {
            command::Command::Consume(consume) => consume.start(),
            other => panic!("{other:?}"),
        };
        assert_eq!(start("ottla consume t"), Position::End);
        assert_eq!(start("ottla consume t --from-beginning"), Position::Beginning);
        assert_eq!(start("ottla consume t --offset 7"), Position::Offset(Offset(7)));
        assert_eq!(start("ottla consume t --offset -7"), Position::BeforeEnd(7));
    }
}
