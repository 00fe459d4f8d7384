#!/bin/sh
# Makes engine.wasm and engine.sha256. Same inputs, same bytes.
#
# Needs (Debian 12): clang lld wasi-libc libclang-rt-dev-wasm32, and cargo or LUA_SOURCES.
# Lua's own sources are not in the repository: `lua-src`, which mlua's `vendored` feature already depends on,
# carries them. `cargo metadata` says where it lies (LUA_SOURCES=DIR, the folder with lapi.c, overrides).
# Usage: build.sh                  makes the artefact
#        build.sh --check          builds twice elsewhere and compares with what is committed
#        build.sh --checked FILE   makes a slower one with Lua's assertions in it, for tests
set -eu
here=$(cd "$(dirname "$0")" && pwd)
clang=${CLANG:-clang}

find_lua() {
  [ -n "${LUA_SOURCES:-}" ] && { echo "$LUA_SOURCES"; return; }
  manifest=$(cd "$here" && cargo metadata --format-version 1 --locked --filter-platform x86_64-unknown-linux-gnu |
    sed 's/.*"manifest_path":"\([^"]*lua-src-[^"]*\)".*/\1/')
  case $manifest in
    */Cargo.toml) echo "$(dirname "$manifest")/lua-5.3.6" ;;
    *) echo "build.sh: lua-src is not among the dependencies; set LUA_SOURCES" >&2; exit 1 ;;
  esac
}

# lua.c, luac.c and lua's files, loader, os, bytecode and library list stay out: sandbox.c and textonly.c stand in.
lua_files="lapi lauxlib lbaselib lbitlib lcode lcorolib lctype ldblib ldebug ldo lfunc lgc llex lmathlib lmem
lobject lopcodes lparser lstate lstring lstrlib ltable ltablib ltm lutf8lib lvm lzio"

flags="--target=wasm32-wasi -isystem /usr/include/wasm32-wasi -std=gnu11 -O3
-mbulk-memory -msign-ext -mnontrapping-fptoint -mmutable-globals -ftls-model=local-exec -ffp-contract=off -fno-math-errno
-DLUA_COMPAT_5_2 -DNDEBUG"
[ "${1:-}" = --checked ] && flags="$flags -DWEFT_CHECKED -g"

strip=-Wl,--strip-all
[ "${1:-}" = --checked ] && strip=

build() {   # build FOLDER: leaves FOLDER/engine.wasm
  work=$1
  rm -rf "$work" && mkdir -p "$work"
  cp "$lua"/*.c "$lua"/*.h "$work/"
  (cd "$work" && git apply "$here/patches/lua-5.3.6.patch")
  mkdir -p "$work/glue"
  cp "$here"/src/*.[ch] "$work/glue/"
  crypto=
  if ls "$here"/crypto/*.c >/dev/null 2>&1; then
    cp "$here"/crypto/*.[ch] "$work/glue/"
    crypto=-DWEFT_CRYPTO
  fi
  cd "$work"
  objects=
  for name in $lua_files; do
    # shellcheck disable=SC2086
    $clang $flags -w -I. -Iglue -c "$name.c" -o "$name.o"
    objects="$objects $name.o"
  done
  for file in glue/*.c; do
    # shellcheck disable=SC2086
    $clang $flags $crypto -Wall -Wextra -Werror -I. -Iglue -c "$file" -o "${file%.c}.o"
    objects="$objects ${file%.c}.o"
  done
  # shellcheck disable=SC2086
  $clang --target=wasm32-wasi -nostartfiles -nodefaultlibs -L/usr/lib/wasm32-wasi $objects \
    -lc "$("$clang" -print-resource-dir)/lib/wasi/libclang_rt.builtins-wasm32.a" \
    -Wl,--no-entry,--export=__stack_pointer,--stack-first,-z,stack-size=1048576,--gc-sections $strip \
    -o engine.wasm
  cd "$here"
}

lua=$(find_lua)
[ -f "$lua/lapi.c" ] || { echo "build.sh: no Lua sources at $lua" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
build "$scratch/one"
if [ "${1:-}" = --checked ]; then
  cp "$scratch/one/engine.wasm" "$2"
elif [ "${1:-}" = --check ]; then
  build "$scratch/another/place"
  cmp "$scratch/one/engine.wasm" "$scratch/another/place/engine.wasm"
  cmp "$scratch/one/engine.wasm" "$here/engine.wasm"
  echo "engine.wasm is what its sources make"
else
  cp "$scratch/one/engine.wasm" "$here/engine.wasm"
  (cd "$here" && sha256sum engine.wasm > engine.sha256 && wc -c engine.wasm)
fi
