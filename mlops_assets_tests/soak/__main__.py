"""`make soak`: the platform left to itself for some minutes, with processes that die; see `soaking`.

What belongs here: options, and where it happens. What does not: the soak.
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
from mlops_assets_tests.soak.soaking import Soak, Wanted


def main() -> int:
    """Soak, print the account, and return 0 if each row is where it must be."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, help="of files and kills (random)")
    parser.add_argument("--files", type=int, default=Wanted.files, help="files to drop (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=Wanted.seconds, help="time of dropping and killing (%(default)s)"
    )
    parser.add_argument(
        "--limit", type=float, default=Wanted.limit, help="time after that in which all must be in (%(default)s)"
    )
    parser.add_argument("--without-key", action="store_true", help="a contract without a key: rows are appended only")
    parser.add_argument("--keep", action="store_true", help="keep the folder, logs and all")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it must not leave its processes
    seed = SystemRandom().randrange(10**6) if given.seed is None else given.seed
    has_key = not given.without_key
    wanted = Wanted(seed, given.files, given.seconds, given.limit, has_key)
    _tell(f"seed {seed}: {wanted.files} files in {wanted.seconds:.0f} s, {'with' if has_key else 'without'} a key")
    home = Settings.from_environment().home
    ensure_delta_jars(home / "jars")
    place = home / "soak"
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=place, prefix="home-"))
    there = Installation.prepare(folder, home / "jars", has_key=has_key)
    wrong = True
    try:
        account = Soak(there, wanted, _tell).go()
        wrong = bool(account.wrong)
        _tell(f"\nseed             {seed}\n{account.table()}")
    except TimeoutError as error:
        _tell(str(error))
    finally:
        there.close()
        if not (given.keep or wrong):
            shutil.rmtree(folder)
    if wrong:
        _tell(f"repeat it with ARGS='--seed {seed}'; tables and logs are in {folder}")
    return int(wrong)


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
