#!/bin/sh
# pyproject.toml and build.in -> the lock files, which agree on every version they share. Called by `make lock`.
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
    "$uv" pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate --output-file "$output" "$@"
}

# 1. Everything at once, starting from the versions that are locked now: what fits all.
mkdir -p build
cat requirements/*.lock > build/all.lock
resolve build/all.lock pyproject.toml requirements/build.in --all-extras "$@"

# 2. Each file is a part of that.
part() { # NAME SOURCE [OPTION …]
    name=$1
    shift
    resolve "requirements/$name.lock" --constraint build/all.lock "$@"
}
part build requirements/build.in "$@"
part demo pyproject.toml --extra demo "$@"
part ml pyproject.toml --extra demo --extra ml "$@"
part dev pyproject.toml --extra demo --extra dev "$@"

grep -c '^[a-z0-9].*==' requirements/*.lock
