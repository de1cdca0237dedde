#!/bin/sh
# pyproject.toml -> the three lock files, which agree on every version they share. Called by `make lock`.
#
#     sh requirements/lock.sh [--upgrade | --upgrade-package NAME …]
#
# Without an option a version changes only where pyproject.toml no longer allows it.
set -eu
cd "$(dirname "$0")/.."

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    uv=build/uv/bin/uv
    [ -x "$uv" ] || { "${PYTHON:-python3}" -m venv build/uv && build/uv/bin/python -m pip install --quiet uv; }
fi

resolve() { # OUTPUT [OPTION …]; one resolution for every platform and for Python 3.11 to 3.13
    output=$1
    shift
    "$uv" pip compile pyproject.toml requirements/build.in --quiet --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate --output-file "$output" "$@"
}

# 1. Everything at once, starting from the versions that are locked now: what fits all three.
mkdir -p build
cat requirements/dev.lock requirements/ml.lock > build/all.lock
resolve build/all.lock --all-extras "$@"

# 2. Each file is a part of that.
resolve requirements/demo.lock --extra demo --constraint build/all.lock "$@"
resolve requirements/ml.lock --extra demo --extra ml --constraint build/all.lock "$@"
resolve requirements/dev.lock --extra demo --extra dev --constraint build/all.lock "$@"

grep -c '^[a-z0-9].*==' requirements/demo.lock requirements/ml.lock requirements/dev.lock
