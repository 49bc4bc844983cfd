"""Reads pytest's JUnit reports: no test may have been skipped that is not on the list of allowed skips.

A test that is skipped everywhere guards nothing while everything is green; so each skip must be known by name.

Usage: python scripts/check_skips.py REPORT... ALLOWED

The last line it prints is `N passed, N failed, N skipped`, over all reports. The exit code is 0 if every report is
there, a test passed, none failed, and none was skipped but those allowed. ALLOWED has one pattern a line (`*` stands
for anything) of a test's name as the report has it, such as `mlops_assets_tests.data.test_sources::test_real_file*`;
`#` starts a comment.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree as ET


@dataclass(frozen=True)
class Outcome:
    """What became of one test.

    Attributes:
        name: Dotted module and class, `::`, the test with its parameters.
        status: `passed`, `failed` (errors too) or `skipped`.
        reason: Where and why it was skipped, else empty.
    """

    name: str
    status: str
    reason: str = ""


def read_report(report: Path) -> list[Outcome]:
    """Return the outcome of each test; one that failed and had an error in its teardown counts once."""
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - written by our own pytest
        name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcomes[name] = Outcome(name, "failed")
        elif name in outcomes and outcomes[name].status == "failed":
            continue
        elif skipped is not None and skipped.get("type") != "pytest.xfail":
            outcomes[name] = Outcome(name, "skipped", (skipped.text or "").strip())
        else:  # an expected failure is a test that ran and did what it should
            outcomes[name] = Outcome(name, "passed")
    return list(outcomes.values())


def read_allowed(allowed: Path) -> list[str]:
    """Return the patterns of the list of allowed skips."""
    lines = (line.partition("#")[0].strip() for line in allowed.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def main(arguments: list[str]) -> int:
    """Print what is wrong and the counts, and return the exit code."""
    *reports, allowed = (Path(argument) for argument in arguments)
    outcomes: list[Outcome] = []
    absent = False
    for report in reports:
        try:
            outcomes += read_report(report)
        except (OSError, ET.ParseError) as error:
            print(f"no report of the tests: {error}", file=sys.stderr)
            absent = True
    patterns = read_allowed(allowed)
    refused = [
        outcome
        for outcome in outcomes
        if outcome.status == "skipped" and not any(fnmatchcase(outcome.name, pattern) for pattern in patterns)
    ]
    for outcome in refused:
        print(f"skipped and not in {allowed}: {outcome.name} ({outcome.reason})")
    counts = {
        status: sum(outcome.status == status for outcome in outcomes) for status in ("passed", "failed", "skipped")
    }
    if counts["passed"] == 0:
        print("no test has passed")
    print(", ".join(f"{count} {status}" for status, count in counts.items()), flush=True)
    return 1 if absent or refused or counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:  # noqa: PLR2004 - the script, a report and the list
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
