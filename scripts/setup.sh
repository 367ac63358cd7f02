#!/bin/sh
# Make a virtual environment (first argument) and install this project into it with extras (second argument).
# PYTHON names the interpreter; with LOWEST=1 the dependencies are the lowest that pyproject.toml promises.
set -eu
venv=$1
extras=$2

if [ ! -x "$venv/bin/python" ]; then
  for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then found=$python; break; fi
  done
  if [ -z "${found:-}" ]; then
    echo "taskapi_jupyter needs Python 3.10 or newer; install one, or name it: make PYTHON=/path/to/python3" >&2
    exit 1
  fi
  if ! "$found" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "This Python lacks venv. On Debian and Ubuntu: sudo apt-get install python$version-venv" >&2
    exit 1
  fi
  echo "making $venv with $("$found" --version)"
  "$found" -m venv "$venv" || { rm -rf "$venv"; exit 1; }
fi
built=taskapi_jupyter/labextension/static/style.js
if [ -n "$(find labextension -name node_modules -prune -o -name lib -prune -o -type f -newer "$built" -print 2>&1)" ]; then
  rm -rf taskapi_jupyter/labextension labextension/tsconfig.tsbuildinfo  # an install builds what is not there
fi
echo "installing taskapi_jupyter[$extras]"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
if [ -n "${LOWEST:-}" ]; then
  $pip uv
  rm -f "$venv/lowest.txt"  # else uv would keep to what it says
  "$venv/bin/uv" pip compile --quiet --resolution lowest-direct --extra notebook --extra aws --extra ray \
    --python "$venv/bin/python" --output-file "$venv/lowest.txt" pyproject.toml
  pip="$pip --constraint $venv/lowest.txt"
fi
$pip --editable ".[$extras]"
