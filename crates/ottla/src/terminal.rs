//! Standard input and output.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use ottla_runtime::{Spawner, task};
use tokio::sync::mpsc;

use crate::exit::{Failure, Outcome};

/// Lines of standard input (without their line feeds), read by a thread of its own, for reading
/// blocks. It reads only a little ahead, and ends with the receiver.
pub(crate) fn stdin_lines() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    const AHEAD_LINES: usize = 1024;
    let (sender, lines) = mpsc::channel(AHEAD_LINES);
    Spawner::current().detach(async {
        let failed = sender.clone();
        if let Err(error) = task::blocking("stdin", move || read_lines(&sender)).await {
            let _ = failed.send(Err(error)).await;
        }
    });
    lines
}

fn read_lines(lines: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut stdin = io::BufReader::with_capacity(64 * 1024, io::stdin().lock());
    loop {
        let mut line = Vec::new();
        let line = match stdin.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                line.pop_if(|last| *last == b'\n');
                Ok(line)
            }
            Err(error) => Err(error),
        };
        let ends = line.is_err();
        if lines.blocking_send(line).is_err() || ends {
            return;
        }
    }
}

/// Writes to standard output. `Ok(false)` says that nobody reads it any more (`| head`), which is
/// a reason to stop and not an error.
pub(crate) fn print(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Failure::failed(format_args!("cannot write to standard output: {error}")))
        }
    }
}

/// Prints all of a command's output.
pub(crate) fn print_all(text: &str) -> Outcome {
    print(text.as_bytes()).map(drop)
}

/// Asks a question that has to be answered with yes.
pub(crate) fn confirm(question: &str) -> Outcome {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody can be asked here: say --yes, or --dry-run"));
    }
    eprint!("{question} [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read.map(|_| answer.trim().eq_ignore_ascii_case("y")) {
        Ok(true) => Ok(()),
        _ => Err(Failure::failed("nothing was changed")),
    }
}

/// A number of bytes for people: `512 B`, `1.5 KiB`, `2.0 GiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
