#!/bin/sh
# Usage: proof.sh PART|all [OPTION...]   A part of the long proofs, as .ci/proof-parts names them; `make proof` calls it.
# Each part is one pytest with a report of its own, $MLOPS_HOME/test/proof-PART.xml. The options are pytest's; that they
# choose no test of a part is no failure. A proof may take a quarter of an hour: a limit is there to end what hangs, not to
# judge how fast this machine is.
set -u
table=.ci/proof-parts
parts=$1
shift
[ "$parts" != all ] || parts=$(awk '/^[a-z]/ { print $1 }' "$table")

code=0
for part in $parts; do
  echo "proof: $part"
  processes=$(awk -v part="$part" '$1 == part { print $3 }' "$table")
  # shellcheck disable=SC2046 # paths are words of their own
  PYTEST_TIMEOUT=900 "$VENV/bin/python" -m pytest -o cache_dir="$MLOPS_HOME/cache/pytest" -m proof \
    --junitxml="$MLOPS_HOME/test/proof-$part.xml" -n "${processes:-0}" --dist loadfile --no-loadscope-reorder \
    $(awk -v part="$part" '/^[a-z]/ { name = $1 } /^ / && name == part { print $1 }' "$table") "$@"
  ended=$?
  [ "$ended" -eq 0 ] || { [ "$ended" -eq 5 ] && [ "$#" -gt 0 ]; } || code=$ended
done
exit "$code"
