#!/bin/sh
# Refuses keys, tokens and passwords in the named files or, when none is named, in all files that git would commit.
#
# What belongs here: how detect-secrets is called, once for `make check` and the pre-commit hook. A made-up value that
# only looks like a secret is marked on its line with `# pragma: allowlist secret`.
set -u
detect="${VENV:-.venv}/bin/detect-secrets-hook"

# Names of settings and test cases, and the made-up values that the tests of redaction look for.
names='DATABRICKS_TOKEN|Bearer|pat|none|expired|lost|probe/place|kafka/password|dapi'
made_up='secret|sec|hidden|hunter2|not-a-token|dapi123|dapi-of-a-person|0123456789abcdef|fedcba9876543210'

scan() {
  # --no-verify: otherwise each value found is sent to the service it may belong to, to see whether it works there.
  # The locks hold thousands of checksums and nothing that a person typed; code versions are fingerprints of contracts.
  xargs -0 -P 2 -n 150 "$detect" --no-verify --plugin scripts/databricks_tokens.py \
    --exclude-secrets "^($names|$made_up)$" --exclude-files '\.(lock|png)$' \
    --exclude-lines '^ *"code_version": "[0-9a-f]{16}",?$'
}

if [ "$#" -gt 0 ]; then
  printf '%s\0' "$@" | scan
elif git rev-parse --git-dir >/dev/null; then
  git ls-files -z --cached --others --exclude-standard | scan
else
  exit 1 # git has said why; without it nobody knows which files would be committed
fi || {
  echo "secrets: these lines look like secrets. Fix: remove the value, and revoke it if it was ever real;" \
    "mark a made-up one with '# pragma: allowlist secret'" >&2
  exit 1
}
