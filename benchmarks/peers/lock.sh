#!/bin/sh
# NAME.in -> NAME.lock beside it: every package of a peer's environment with its hashes. Needs uv on PATH.
set -eu
cd "$(dirname "$0")"

for source in *.in; do
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --output-file "${source%.in}.lock" "$@" "$source"
done
grep -c '^[a-z0-9].*==' ./*.lock
