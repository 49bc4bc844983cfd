#!/bin/sh
# Checks the two things that the set-up can't bring itself, Python and Java, and says in one line each what to fix.
# Prints the path of the Python to use. Nothing but the shell itself is needed: it must speak up on a bare machine.
#
# PYTHON     the Python to use, whatever else there is
# VENV       a virtual environment whose Python is taken if it is fit (default: .venv)
# JAVA_HOME  as Spark reads it; without it, `java` in the PATH

set -u

# Written so that any Python from 2.6 on can answer. The modules are those that some distributions leave out; they are
# looked for and not loaded, because this runs before every target.
probe='
import sys
version = ".".join(map(str, sys.version_info[:3]))
if not (3, 11) <= tuple(sys.version_info[:2]) <= (3, 13):
    print("unfit " + version)
else:
    from importlib.util import find_spec
    absent = [name for name in ("ensurepip", "venv", "_ctypes", "_sqlite3", "_ssl") if find_spec(name) is None]
    if absent:
        print("unfit %s without its module %s" % (version, absent[0].lstrip("_")))
    else:
        print("fit " + sys.executable)
'

python=
unfit=
consider() {
  command -v "$1" >/dev/null 2>&1 || return 0
  # A pyenv shim for a version that is not chosen exists and fails: no answer, so not a Python.
  answer=$("$1" -E -S -c "$probe" 2>/dev/null) || return 0
  case $answer in
    "fit "*) python=${answer#fit } ;;
    "unfit "*) unfit="$unfit${unfit:+, }$1 is ${answer#unfit }" ;;
  esac
}

if [ -n "${PYTHON:-}" ]; then
  candidates=$PYTHON
  consider "$PYTHON"
else
  candidates="python3.13, python3.12, python3.11 or python3 in the PATH"
  for candidate in "${VENV:-.venv}/bin/python" python3.13 python3.12 python3.11 python3; do
    [ -n "$python" ] || consider "$candidate"
  done
fi

status=0
if [ -z "$python" ]; then
  echo "Python 3.11, 3.12 or 3.13 is needed; looked for $candidates: ${unfit:-none works}. Install one, or name it with PYTHON=/path/to/python3." >&2
  status=1
fi

if [ -n "${JAVA_HOME:-}" ]; then
  java=$JAVA_HOME/bin/java
  where="JAVA_HOME=$JAVA_HOME"
else
  java=java
  where="the PATH"
fi
# The exit code counts: macOS ships a /usr/bin/java that only says where to get one.
answer=$("$java" -version 2>&1) || answer=
case $answer in
  *'version "'*)
    version=${answer#*version \"}
    version=${version%%\"*}
    ;;
  *) version= ;;
esac
major=${version#1.} # up to Java 8 the version was 1.8.0_392
major=${major%%[!0-9]*}
if [ -z "$major" ]; then
  found="none that works"
elif [ "$major" -lt 17 ]; then
  found="$version"
else
  found=
fi
if [ -n "$found" ]; then
  echo "Java 17 or 21 is needed; in $where: $found. Install one, or set JAVA_HOME to its folder." >&2
  status=1
fi

[ "$status" -eq 0 ] && printf '%s\n' "$python"
exit "$status"
