#!/bin/bash
# Builds vitald as one static binary that needs nothing from the host.
#
#   contrib/package/build.sh [--small] [--out FILE] [--static-glibc]
#
#   --small          without TLS (no https probes): --no-default-features; and for size before
#                    speed: 330 KB less, a third more time in the engine
#   --out FILE       where to put it; default: TARGET_DIR/package/vitald, or vitald-small
#   --static-glibc   link the host's glibc instead of musl: larger, and only when asked for
#
# The musl build uses rustup's musl target where it is installed (rustup target add
# x86_64-unknown-linux-musl). Where it is not, it uses Debian's packages rustc-web, cargo-web and
# rust-web-src, and builds the standard library along with vitald against musl-tools. That
# compiler is another one than the one that runs the tests, so run the black-box tests against
# its result too (VITALD_BIN, see .ci/run).
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "package: $1" >&2; exit 1; }

small= out= glibc=
while [ $# -gt 0 ]; do
  case $1 in
    --small) small=1 ;;
    --static-glibc) glibc=1 ;;
    --out) [ $# -gt 1 ] || fail "--out wants a file"; out=$2; shift ;;
    *) fail "unknown argument $1; see the head of $0" ;;
  esac
  shift
done

# What Rust calls this machine.
case $(uname -m) in
  x86_64) cpu=x86_64 abi= ;;
  aarch64) cpu=aarch64 abi= ;;
  armv7l) cpu=armv7 abi=eabihf ;;
  riscv64) cpu=riscv64gc abi= ;;
  *) fail "no Rust target is known for $(uname -m); name it in $0" ;;
esac
musl_target=$cpu-unknown-linux-musl$abi
glibc_target=$cpu-unknown-linux-gnu$abi

target_dir=${CARGO_TARGET_DIR:-target}/package
mkdir -p "$target_dir"
target_dir=$(cd "$target_dir" && pwd)
out=${out:-$target_dir/vitald${small:+-small}}
build=(build --release --locked --bin vitald --target-dir "$target_dir" ${small:+--no-default-features})

[ -z "$small" ] || export CARGO_PROFILE_RELEASE_OPT_LEVEL=z

# Variables of the surroundings that would replace the flags given here.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

rustup_has_musl() {
  command -v rustc >/dev/null && [ -d "$(rustc --print sysroot)/lib/rustlib/$musl_target/lib" ]
}

musl_libs=/usr/lib/$(gcc -print-multiarch 2>/dev/null | sed 's/gnu/musl/')
musl_headers=/usr/include/$(basename "$musl_libs")
debian_has_rust() {
  [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -f "$musl_libs/libc.a" ] \
    && [ -f /usr/lib/rustlib/src/rust/library/Cargo.lock ]
}

build_with_debian() {
  local tools=$target_dir/musl-tools gcc_libs target=${musl_target//-/_}
  gcc_libs=$(dirname "$(gcc -print-libgcc-file-name)")
  mkdir -p "$tools"
  # Panics abort and print no backtrace: of an unwinder nothing but its name is needed, and what
  # std's never called printer of backtraces asks for where the compiler leaves that in.
  cat > "$tools/unwind.c" <<'SOURCE'
int _Unwind_Backtrace(void *step, void *with) { (void)step; (void)with; return 5; }
unsigned long _Unwind_GetIP(void *frame) { (void)frame; return 0; }
SOURCE
  gcc -Os -fPIC -c "$tools/unwind.c" -o "$tools/unwind.o"
  rm -f "$tools/libunwind.a"; ar cr "$tools/libunwind.a" "$tools/unwind.o"
  # Nor its tables, a tenth of the whole (ld: INSERT adds to the default script).
  echo 'SECTIONS { /DISCARD/ : { *(.eh_frame .eh_frame.* .gcc_except_table .gcc_except_table.*) } }
INSERT AFTER .rodata;' > "$tools/no-unwind-tables.ld"
  # musl-gcc takes start files for a dynamic executable; a static one that can be loaded anywhere
  # wants rcrt1.o. rustc takes a wrapper for a compiler only when its name ends in -gcc.
  cat > "$tools/link-gcc" <<WRAPPER
#!/bin/sh
exec gcc -nostdlib -nostartfiles -nodefaultlibs -L$musl_libs \\
  -Wl,--no-eh-frame-hdr -Wl,-T,$tools/no-unwind-tables.ld \\
  $musl_libs/rcrt1.o $musl_libs/crti.o $gcc_libs/crtbeginS.o "\$@" \\
  $gcc_libs/crtendS.o $musl_libs/crtn.o
WRAPPER
  # For the C and assembly of ring.
  cat > "$tools/cc-gcc" <<WRAPPER
#!/bin/sh
exec gcc -nostdinc -isystem $musl_headers -isystem $gcc_libs/include "\$@"
WRAPPER
  chmod +x "$tools/link-gcc" "$tools/cc-gcc"
  # Named in full: rustup's come first in PATH. RUSTC_BOOTSTRAP allows -Zbuild-std in a release.
  # optimize_for_size: small sorts and the like in std, 130 KB.
  env RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 "CC_$target=$tools/cc-gcc" \
    "CARGO_TARGET_${target^^}_LINKER=$tools/link-gcc" \
    "CARGO_TARGET_${target^^}_RUSTFLAGS=-Clink-self-contained=no -L$tools" \
    /usr/bin/cargo "${build[@]}" --target "$musl_target" \
    -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
}

if [ -n "$glibc" ]; then
  kind="static glibc, not musl: as --static-glibc asked"
  target=$glibc_target
  RUSTFLAGS='-C target-feature=+crt-static' cargo "${build[@]}" --target "$target"
elif rustup_has_musl; then
  kind="musl, rustc $(rustc --version | cut -d" " -f2)"
  target=$musl_target
  cargo "${build[@]}" --target "$target"
elif debian_has_rust; then
  kind="musl, Debian rustc $(/usr/bin/rustc --version | cut -d" " -f2) with its library built along"
  target=$musl_target
  build_with_debian
else
  fail "nothing here builds for musl. Either: rustup target add $musl_target
  or: apt-get install --no-install-recommends rustc-web cargo-web rust-web-src musl-tools gcc
  or, for a static glibc binary: $0 --static-glibc"
fi

install -D -m 755 "$target_dir/$target/release/vitald" "$out"
echo "package: $out: $(stat -c %s "$out") bytes, ${small:+no TLS, }$kind"
