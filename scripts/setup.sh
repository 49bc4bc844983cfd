#!/bin/sh
# Sets up a checkout: a virtual environment with exactly the locked packages, the projects of the checkout, Delta jars.
#
# What belongs here: what `make` needs before its target. What does not: finding Python and Java (`preflight.sh`), and
# anything that a run does. Python's own `venv` makes the environment, because uv has to be somewhere before it can do
# anything; pip does one thing, it installs uv by the hash in the lock; uv does the rest.
#
# An environment that is up to date costs a comparison. One that was interrupted, moved or made by another Python is
# made from scratch; one whose lock has changed is synchronized. Two set-ups in one checkout wait for each other.
#
# PYTHON, VENV, JAVA_HOME  as in preflight.sh
# MLOPS_HOME               folder that runs write to (default: .mlops)

set -eu
cd "$(dirname "$0")/.."
: "${VENV:=.venv}" "${MLOPS_HOME:=$PWD/.mlops}"
export VENV MLOPS_HOME

say() { echo "set-up: $*"; }
stop() {
  echo "set-up: $*" >&2
  exit 1
}

python=$(sh scripts/preflight.sh)

# The mark tells `make clean` that the folder may be removed.
if [ ! -e "$MLOPS_HOME/.gitignore" ]; then
  (umask 077 && mkdir -p "$MLOPS_HOME")
  if [ "$MLOPS_HOME" = "$PWD/.mlops" ] || [ -z "$(ls -A "$MLOPS_HOME")" ]; then
    printf '# made by mlops_assets: `make clean` removes this folder\n*\n' >"$MLOPS_HOME/.gitignore"
  fi
fi

# What runs write is the user's alone; an earlier release let others in.
if grep -qs "made by mlops_assets" "$MLOPS_HOME/.gitignore"; then
  chmod go= "$MLOPS_HOME"
fi

# --- Is it up to date? ------------------------------------------------------------------------------------------------

# The stamp's first line is the place and the Python, which an environment can't change; the rest is what is in it.
answer=$("$python" -c '
import os, sys
venv, base = os.path.abspath(sys.argv[1]), getattr(sys, "_base_executable", sys.executable)
print(venv, os.getcwd(), sys.base_prefix, sys.version.replace("\n", " "))
# What is left of an environment without its pyvenv.cfg calls itself the base, and is about to be removed.
print(os.path.realpath(base) if base.startswith(venv + os.sep) else base)' "$VENV")
place=${answer%
*}
base=${answer#*
}
projects=$(ls pyproject.toml packages/*/pyproject.toml 2>/dev/null || :)
# shellcheck disable=SC2086 # paths of this checkout, without spaces
wanted="$place
$(cksum requirements.lock scripts/setup.sh $projects)"
stamp=$VENV/.mlops-stamp

if [ ! -x "$VENV/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then

  # The checkout's folder is locked: no file is left behind, and the lock ends with the last process that holds it.
  if [ -z "${MLOPS_SETUP_LOCKED:-}" ]; then
    export MLOPS_SETUP_LOCKED=1
    exec "$base" -c '
import fcntl, os
checkout = os.open(".", os.O_RDONLY)
os.set_inheritable(checkout, True)
try:
    fcntl.flock(checkout, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("set-up: waiting for another one in this checkout", flush=True)
    fcntl.flock(checkout, fcntl.LOCK_EX)
os.execvp("sh", ["sh", "scripts/setup.sh"])'
  fi

  # --- The environment ------------------------------------------------------------------------------------------------

  began=$(date +%s)
  version=$("$base" -c 'import platform; print(platform.python_version())')
  if [ -x "$VENV/bin/python" ] && [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$place" ]; then
    say "bringing $VENV up to date (Python $version)"
    echo unfinished >"$stamp"
  else
    [ ! -L "$VENV" ] || stop "$VENV is a link; name the folder that it leads to with VENV=, or remove the link"
    [ -e "$VENV/pyvenv.cfg" ] || [ -e "$stamp" ] || [ -z "$(ls -A "$VENV" 2>/dev/null)" ] ||
      stop "$VENV is no virtual environment and not empty; name another folder with VENV="
    say "making $VENV with Python $version"
    mkdir -p "$VENV"
    echo unfinished >"$stamp" # before anything is removed: a folder that is half empty must be known for what it is
    find "$VENV" -mindepth 1 -maxdepth 1 ! -name .mlops-stamp -exec rm -rf {} +
    "$base" -m venv "$VENV"
  fi

  # --- The packages ---------------------------------------------------------------------------------------------------

  # uv does not read pip's settings, and who is behind a company's mirror has set it for pip. uv's own settings win.
  pip_settings=$("$VENV/bin/python" -m pip config list)
  hand_over() { # pip's setting, the variable by which uv takes it, and what is set for uv already
    value=$(printf "%s\n" "$pip_settings" | sed -n "s/^[a-z:]*\.$1='\(.*\)'\$/\1/p" | sed 's/\\n/ /g' | tail -n 1)
    [ -n "$3" ] || [ -z "$value" ] || export "$2=$value"
  }
  hand_over index-url UV_DEFAULT_INDEX "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}"
  hand_over extra-index-url UV_INDEX "${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}"
  hand_over cert SSL_CERT_FILE "${SSL_CERT_FILE:-}${SSL_CERT_DIR:-}"
  export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}"

  say "installing $(grep -c '^[a-z0-9].*==' requirements.lock) locked packages" \
    "(about 1 GB is downloaded the first time, then cached)"
  locked() { sed -n "/^$1==/,/[^\\\\]\$/p" requirements.lock; } # one package of the lock, with its hashes
  locked uv | "$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-deps \
    --require-hashes --requirement /dev/stdin || stop "pip could not install uv"
  # pyspark, published as source only, is built with the locked setuptools. Only that is named: uv builds anew whenever
  # this file has changed. Bytecode is compiled here, in parallel and once: where PYTHONDONTWRITEBYTECODE is set, each
  # process of a run would do it over again.
  locked setuptools >"$VENV/.build-constraints"
  "$VENV/bin/uv" pip sync --python "$VENV/bin/python" --compile-bytecode --require-hashes \
    --build-constraints "$VENV/.build-constraints" requirements.lock ||
    stop "uv could not install the locked packages; the next \`make\` starts over with what is downloaded by now"
  for project in $projects; do
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-build-isolation --no-deps \
      --editable "./$(dirname "$project")" || stop "uv could not install the project of $project"
  done

  printf '%s\n' "$wanted" >"$stamp.new"
  mv "$stamp.new" "$stamp"
  say "the environment is ready ($(($(date +%s) - began)) s)"
fi

# --- Spark: Delta's jars, and the archive of classes that makes each start of the JVM cheaper ---------------------------

exec "$VENV/bin/python" -m mlops_assets.resources.prepare_spark "$MLOPS_HOME" "${JAVA_HOME:-}"
