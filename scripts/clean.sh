#!/bin/sh
# Removes the folder that runs write to (MLOPS_HOME), and refuses one that may hold anything else.

set -eu

refuse() {
  echo "clean: $MLOPS_HOME is not removed: $1. Remove by hand what you don't need." >&2
  exit 1
}

[ -e "$MLOPS_HOME" ] || exit 0
home=$(cd "$MLOPS_HOME" && pwd -P) || refuse "it is no folder that can be entered"
# With a slash at both ends, `/a/` starts `/a/b/` and not `/ab/`.
for precious in "$(pwd -P)" "$(cd && pwd -P)"; do
  case ${precious%/}/ in
    "${home%/}"/*) refuse "it is or contains $precious" ;;
  esac
done
# The set-up writes this mark into a folder that it made or found empty; the default one is ours in any case.
[ "$home" = "$(pwd -P)/.mlops" ] || grep -q "made by mlops_assets" "$home/.gitignore" 2>/dev/null ||
  refuse "it was not made by mlops_assets (its .gitignore does not say so)"
rm -rf "$home"
