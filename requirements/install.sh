#!/bin/sh
# One lock file -> .venv with exactly its packages, and this project in it. Called by the Makefile.
#
#     sh requirements/install.sh demo|ml|dev
#
# Needs a POSIX shell and Python 3.11 to 3.13 with venv. Once .venv holds what the lock file says, nothing is
# fetched and nothing is done. PYTHON names the interpreter to use instead of the newest one found.
set -eu
cd "$(dirname "$0")/.."

lock=requirements/$1.lock
# What .venv was made from: copies of the files, and the folder it was made in (its programs know their own path).
made=.venv/made-from

fail() {
    echo "setup: $1" >&2
    exit 1
}

up_to_date() {
    cmp -s "$lock" "$made/$1.lock" &&
        cmp -s requirements/build.lock "$made/build.lock" &&
        cmp -s pyproject.toml "$made/pyproject.toml" &&
        [ "$(cat "$made/folder")" = "$PWD" ] &&
        .venv/bin/python -c '' 2>/dev/null
}

suits() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.13 python3.12 python3.11 python3
    fi
    for name; do
        if suits "$name"; then
            echo "$name"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 with venv was found (tried: $*). Install one (on Debian: python3 and python3-venv), \
or name it: make setup PYTHON=/path/to/python3.12"
}

make_venv() {
    python=$(find_python)
    echo "setup: making .venv with $("$python" -V)"
    "$python" -m venv --clear .venv || fail "$python could not make .venv (its message is above)"
}

pip_install() {
    # The environment and configuration of the person's other projects must not reach into this one.
    env -u PYTHONPATH -u PYTHONHOME PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
        .venv/bin/python -m pip install $quiet "$@" || fail "the packages of $lock are not installed; pip's message is above. \
The package registry must be reachable the first time, and the folder has $(free_mb) MB free of about 700 that are needed. \
Run the same command again: what was fetched is kept."
}

free_mb() {
    df -Pm . | awk 'NR == 2 { print $4 }'
}

[ -f "$lock" ] || fail "there is no $lock: expected demo, ml or dev, got '$1'"
if up_to_date "$1"; then
    exit 0
fi

# A terminal sees pip at work; a log keeps only what went wrong.
quiet=
[ -t 1 ] || quiet=--quiet

if ! suits .venv/bin/python || { [ -f "$made/folder" ] && [ "$(cat "$made/folder")" != "$PWD" ]; }; then
    make_venv
fi
rm -f "$made/$1.lock"
echo "setup: installing the $(grep -c '^[a-z0-9].*==' "$lock") packages of $lock (a minute or two the first time)"
# First what builds, then what is built with it: no step fetches anything that a lock file does not name.
pip_install --require-hashes -r requirements/build.lock
pip_install --require-hashes --no-build-isolation --use-pep517 -r "$lock"
pip_install --no-deps --no-build-isolation --editable .

mkdir -p "$made"
pwd > "$made/folder"
cp "$lock" requirements/build.lock pyproject.toml "$made/"
