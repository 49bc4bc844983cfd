"""`make soak`: the platform runs unattended for some minutes while processes get killed; see `soaking`.

What belongs here: options, and the folder it runs in. What does not: the soak itself.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.settings import Settings
from mlops_assets_tests.soak.installation import Installation
from mlops_assets_tests.soak.soaking import Soak, SoakSize


def main() -> int:
    """Run the soak, print its report, and return 0 if each row is where it must be."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, help="seed of files and kills (random)")
    parser.add_argument("--files", type=int, default=SoakSize.files, help="files to drop (%(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=SoakSize.seconds,
        help="time in which files are dropped and processes killed (%(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=SoakSize.limit,
        help="time after that in which all files must be loaded (%(default)s)",
    )
    parser.add_argument("--without-key", action="store_true", help="a contract without a key: rows are appended only")
    parser.add_argument("--keep", action="store_true", help="keep the folder with tables and logs")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ending it must not leave its processes behind
    seed = SystemRandom().randrange(10**6) if given.seed is None else given.seed
    has_key = not given.without_key
    size = SoakSize(seed, given.files, given.seconds, given.limit, has_key)
    _print(f"seed {seed}: {size.files} files in {size.seconds:.0f} s, {'with' if has_key else 'without'} a key")
    home = Settings.from_environment().home
    ensure_delta_jars(home / "jars")
    place = home / "soak"
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=place, prefix="home-"))
    there = Installation.prepare(folder, home / "jars", has_key=has_key)
    wrong = True
    try:
        report = Soak(there, size, _print).run()
        wrong = bool(report.wrong)
        _print(f"\nseed             {seed}\n{report.table()}")
    except TimeoutError as error:
        _print(str(error))
    finally:
        there.close()
        if not (given.keep or wrong):
            shutil.rmtree(folder)
    if wrong:
        _print(f"to repeat it: ARGS='--seed {seed}'; tables and logs are in {folder}")
    return int(wrong)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
