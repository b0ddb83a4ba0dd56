#!/usr/bin/env bash
# Resolve requirements.lock anew: every Python from 3.11 on, with hashes. Needs uv (pip install uv).
set -euo pipefail
cd "$(dirname "$0")/.."
uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-annotate --no-header --quiet --upgrade -o requirements.lock
