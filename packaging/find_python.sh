#!/bin/sh
# Print the interpreter the environment is built with: Python 3.11 or newer that can make a virtual
# environment. PYTHON, if set, is the only candidate. Nothing is installed here; where Debian has
# split `venv` into a package of its own, the message names it.
set -u

for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done

echo "No Python 3.11 or newer with venv and ensurepip among: ${PYTHON:-python3.11 python3 python3.12 python3.13}." >&2
echo "Install one (Debian: apt-get install python3.11 python3.11-venv), or name it: make setup PYTHON=/path/to/python" >&2
exit 1
