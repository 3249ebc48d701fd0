#!/bin/sh
# Builds and installs dbgate.
#
#   ./install.sh               build, install under ~/.local (binary, completions, man pages)
#   ./install.sh --prefix DIR  install under DIR
#   ./install.sh --demo        build quickly, install nothing, walk through the main job
#   ./install.sh --uninstall   remove what was installed
#   ./install.sh --help        this text
#
# Build output goes to CARGO_TARGET_DIR, by default ~/.cache/dbgate/target.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
prefix=${HOME:-/root}/.local
action=install

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "install.sh: $*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }

while [ $# -gt 0 ]; do
    case $1 in
        --demo) action=demo ;;
        --uninstall) action=uninstall ;;
        --prefix)
            [ $# -ge 2 ] || fail "--prefix needs a folder"
            prefix=$2
            shift
            ;;
        --prefix=*) prefix=${1#--prefix=} ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 64
            ;;
    esac
    shift
done

[ -n "$prefix" ] || fail "--prefix needs a folder"
case $prefix in
    /*) ;;
    # From where it was typed: the build goes on elsewhere.
    *) prefix=$PWD/$prefix ;;
esac

# Shells look for completions in these places, below the prefix.
bash_folder=$prefix/share/bash-completion/completions
zsh_folder=$prefix/share/zsh/site-functions
fish_folder=$prefix/share/fish/vendor_completions.d
man_folder=$prefix/share/man/man1

if [ "$action" = uninstall ]; then
    rm -f "$prefix/bin/dbgate" "$bash_folder/dbgate" "$zsh_folder/_dbgate" "$fish_folder/dbgate.fish"
    rm -f "$man_folder/dbgate.1" "$man_folder"/dbgate-*.1
    say "Removed dbgate from $prefix. Sign-ins and records of your own stay; dbgate logout forgets a sign-in."
    exit 0
fi

# --- what the build needs ------------------------------------------------------------------------

if ! have cargo && [ -r "${HOME:-/root}/.cargo/env" ]; then
    # Installed by rustup, but this shell has not read its settings.
    . "${HOME:-/root}/.cargo/env"
fi
have cargo || fail "Rust is missing. Install it from https://rustup.rs, then run this again."
wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)"/\1/p' "$here/Cargo.toml")
found=$(cargo --version | sed 's/^cargo \([0-9]*\.[0-9]*\).*/\1/')
oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -t . -k 1,1n -k 2,2n | head -n 1)
[ "$oldest" = "$wanted" ] || fail "Rust $found is too old, $wanted is needed. Run: rustup update stable"

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    for library in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* /usr/lib/libclang*.so* \
        /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib \
        /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
        [ -e "$library" ] && return 0
    done
    return 1
}

has_postgres() {
    have initdb && return 0
    for program in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /opt/homebrew/opt/postgresql*/bin/initdb \
        /usr/local/opt/postgresql*/bin/initdb /Applications/Postgres.app/Contents/Versions/*/bin/initdb; do
        [ -x "$program" ] && return 0
    done
    return 1
}

# The names that this machine's package manager gives to what is missing.
missing=
need() {
    if have apt-get; then
        missing="$missing $1"
    elif have dnf; then
        missing="$missing $2"
    else
        missing="$missing $3"
    fi
}

have cc || need build-essential gcc gcc
has_libclang || need libclang-dev clang-devel llvm
has_postgres || need postgresql postgresql-server postgresql@17
have psql || need postgresql-client postgresql postgresql@17

if [ -n "$missing" ]; then
    # The list is split into words on purpose: each is one package.
    # shellcheck disable=SC2086
    if have apt-get; then
        say "Installing:$missing"
        if [ "$(id -u)" -eq 0 ]; then
            apt-get update -q >&2
            DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
        elif have sudo; then
            sudo apt-get update -q >&2
            sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
        else
            fail "packages are missing. As root, run: apt-get install$missing"
        fi
    elif have dnf; then
        fail "packages are missing. Run: sudo dnf install$missing"
    elif have brew; then
        fail "packages are missing. Run: brew install$missing"
    else
        fail "missing on this machine: a C compiler, libclang or PostgreSQL 14 or later (looked for:$missing)"
    fi
fi

# --- build ---------------------------------------------------------------------------------------

CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${HOME:-/root}/.cache/dbgate/target}
export CARGO_TARGET_DIR
cd "$here"

if [ "$action" = demo ]; then
    # Unoptimised: a few minutes instead of ten, the first time.
    say "Building (the first time takes a few minutes) ..."
    cargo build --locked --bin dbgate
    # At a terminal the demo stays up after the walk, to be played with; a script gets its end.
    if [ -t 0 ] && [ -t 1 ]; then
        exec "$CARGO_TARGET_DIR/debug/dbgate" demo
    fi
    exec "$CARGO_TARGET_DIR/debug/dbgate" demo --once
fi

say "Building (the first time takes about ten minutes) ..."
cargo build --locked --release --bin dbgate

# --- install -------------------------------------------------------------------------------------

mkdir -p "$prefix/bin" "$bash_folder" "$zsh_folder" "$fish_folder" "$man_folder"
# Moved into place, so that a running dbgate is not written over.
cp "$CARGO_TARGET_DIR/release/dbgate" "$prefix/bin/.dbgate.new"
chmod 755 "$prefix/bin/.dbgate.new"
mv "$prefix/bin/.dbgate.new" "$prefix/bin/dbgate"
cp completions/dbgate.bash "$bash_folder/dbgate"
cp completions/_dbgate "$zsh_folder/_dbgate"
cp completions/dbgate.fish "$fish_folder/dbgate.fish"
cp man/*.1 "$man_folder/"

say "Installed $prefix/bin/dbgate, with completions and man pages under $prefix/share."
case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) say "Not on PATH yet. Run: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
say "Next: dbgate demo"
