#!/bin/sh
# Checks the engine: with the tools of build.sh at hand also that the artefact is what its sources make, and everything
# once more on a build with Lua's own assertions. Otherwise only the committed artefact, which needs node alone.
set -eu
cd "$(dirname "$0")"
node check.mjs
node hostile.mjs
if [ "${1:-}" = --build ]; then
  checked=$(mktemp)
  trap 'rm -f "$checked"' EXIT
  ./build.sh --check
  ./build.sh --checked "$checked"
  WEFT_ENGINE=$checked node check.mjs
  WEFT_ENGINE=$checked node hostile.mjs
fi
