"""Rewrites our messages with kio, whose schemas are newer than those of the Rust oracles.

Reads what `cargo run -- ours` prints, and writes the golden file of the messages and versions that
the Rust oracles lack; see README.md.
"""

import importlib
import io
import re
import sys
from pathlib import Path

from kio.serial import entity_reader, entity_writer

GOLDEN = Path(__file__).parent / "../crates/protocol/tests/golden"


def known_elsewhere():
    for name in ("0.15.1.txt", "0.18.0.txt"):
        for line in (GOLDEN / name).read_text().splitlines():
            message, version, _ = line.split(" ", 2)
            yield message, version


def entity(message, version):
    """kio's class for the message; None for a coordinator's record, which it does not have."""
    stem = re.sub("(Request|Response)$", "", message)
    package = re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", stem).lower()
    kind = {"Request": "request", "Response": "response"}.get(message.removeprefix(stem), "data")
    try:
        module = importlib.import_module(f"kio.schema.{package}.v{version}.{kind}")
    except ImportError:
        return None
    return getattr(module, message)


def main():
    elsewhere = set(known_elsewhere())
    lines, equal, unknown, failed = [], 0, 0, False
    for line in sys.stdin:
        message, version, filled = line.split()
        ours = bytes.fromhex(filled[1:])
        cls = entity(message, version)
        if cls is None:
            unknown += 1
            continue
        value, read = entity_reader(cls)(ours, 0)
        theirs = io.BytesIO()
        entity_writer(cls)(theirs, value)
        if read != len(ours) or theirs.getvalue() != ours:
            print(f"{message} v{version}\n  ours   {filled[1:]}\n  theirs {theirs.getvalue().hex()}")
            failed = True
        equal += 1
        if (message, version) not in elsewhere:
            lines.append(f"{message} {version} - x{theirs.getvalue().hex()}\n")
    if failed:
        sys.exit(1)
    (GOLDEN / "kio-0.6.5.txt").write_text("".join(lines))
    print(f"{equal} equal, {len(lines)} of them new; {unknown} are not in kio")


main()
