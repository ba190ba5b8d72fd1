#!/usr/bin/env bash
# Every test, on a machine that has Rust (rustup), Go and Python; what else is needed is installed. CI runs this and
# nothing else.
#
#   scripts/test.sh              everything: up to an hour on two cores
#   scripts/test.sh --unit       what needs neither a release build nor the test bed: minutes
#   scripts/test.sh STEP...      only these; --list names them
#
# A step that cannot run has failed. The closing lines say what ran.
# The steps bed and e2e start a cluster on this machine (tests/testbed/README.md says what that needs), and end it. There
# can only be one: with CI set, one that another checkout left is ended first.
# shellcheck disable=SC2317 # the steps are called by their names
set -euo pipefail
cd "$(dirname "$0")/.."

unit_steps=(tools format clippy test go shell manifests docs first-command)
image_steps=(image smoke)
bed_steps=(bed e2e)
all_steps=("${unit_steps[@]}" "${image_steps[@]}" "${bed_steps[@]}")

# Where one step leaves something for a later one, and what is removed at the end.
work=$(mktemp -d "${TMPDIR:-/tmp}/test.XXXXXX")
in_background=""
finish() {
  if [ -n "$in_background" ]; then
    kill "$in_background" 2>/dev/null || true
    wait "$in_background" || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
target=${CARGO_TARGET_DIR:-$PWD/target}
program="$target/debug/k3s-registry-agent"

fail() {
  echo "$*" >&2
  return 1
}

# Runs a command and expects an exit code.
expect() {
  local expected=$1 status=0
  shift
  "$@" || status=$?
  [ "$status" -eq "$expected" ] || fail "exit code $status instead of $expected: $*"
}

step_tools() {
  scripts/install-tools.sh cc python-yaml shellcheck skopeo docker-registry htpasswd
  local tool
  for tool in cc cargo go python3 git shellcheck skopeo docker-registry htpasswd; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
  done
  rustc --version
  go version
  python3 --version
}

step_format() {
  cargo fmt --all -- --check
}

step_clippy() {
  timeout 480 cargo clippy --workspace --all-targets --locked -- -D warnings
}

step_test() {
  timeout 900 cargo test --workspace --locked
}

# Every Go module under tests/: the oracles that our reading is compared with, and the test bed's parts. Vetting compiles
# what a module depends on, and the bed's depend on k3s, containerd and Gitea: those are vetted where the bed is built.
step_go() {
  local module unformatted
  while read -r module; do
    echo "$module"
    unformatted=$(gofmt -l "$module")
    [ -z "$unformatted" ] || fail "gofmt: $unformatted"
    [[ "$module" == tests/testbed/* ]] || (cd "$module" && timeout 300 go vet ./...)
  done < <(git ls-files 'tests/*go.mod' | xargs -r -n 1 dirname)
}

step_shell() {
  local scripts
  mapfile -t scripts < <(
    git ls-files -- '*.sh' .ci/run
    git grep -lIE '^#!.*\b(ba)?sh$' -- tests scripts ':!*.sh' || true
  )
  echo "${scripts[*]}"
  shellcheck "${scripts[@]}"
}

step_manifests() {
  scripts/install-yaml.sh --check
  # What reads YAML 1.1, as kubectl's does, must see the same: here only that it can read all of it.
  git ls-files -z -- 'manifests/*.yaml' 'examples/*.yaml' | xargs -0 python3 -c '
import sys, yaml
for name in sys.argv[1:]:
    with open(name) as file:
        documents = list(yaml.safe_load_all(file))
    assert documents and all(isinstance(document, dict) for document in documents), name
print(len(sys.argv) - 1, "files")'
}

step_docs() {
  RUSTDOCFLAGS="-D warnings" timeout 480 cargo doc --workspace --no-deps --document-private-items --locked
}

# README's first command, on a fresh clone of what is committed. The clone uses our build of the dependencies; what is
# compiled anew are the workspace's own crates.
step_first-command() {
  local command
  command=$(grep -m 1 -A 1 -xF '```sh' README.md | tail -n 1)
  [ "$command" = scripts/try.sh ] || fail "README's first command is '$command'"
  git clone -q --no-hardlinks . "$work/clone"
  # Run twice: the second pass finds nothing to do.
  (
    cd "$work/clone"
    CARGO_TARGET_DIR="$target" timeout 600 scripts/try.sh | tee "$work/first"
    grep -q '^Exit code 3:' "$work/first" || fail "the first run did not end with a restart that is needed"
    [ "$(stat -c %a try/node/etc/rancher/k3s/registries.yaml)" = 600 ] || fail "registries.yaml is not 0600"
    CARGO_TARGET_DIR="$target" timeout 60 scripts/try.sh | tee "$work/second"
    grep -q '^Exit code 0:' "$work/second" || fail "the second run found something to do"
    ! grep -q PLACEHOLDER-TOKEN "$work/first" "$work/second" || fail "the token was printed"
    [ -z "$(git status --porcelain)" ] || fail "the run left something in the work tree: $(git status --porcelain)"
  )
  # The other examples, by the same program, each on a tree of its own.
  local inputs
  for inputs in examples/other/*/; do
    echo "$inputs"
    expect 3 timeout 30 "$program" apply --inputs "$inputs" --root "$work/nodes/$inputs"
    expect 0 timeout 30 "$program" apply --inputs "$inputs" --root "$work/nodes/$inputs"
  done
}

step_image() {
  timeout 600 scripts/image.sh --output "$target/image.tar"
  skopeo inspect --config "oci-archive:$target/image.tar" >"$target/image.json"
  skopeo inspect "docker-archive:$target/image.tar" >/dev/null
  python3 - "$target/image.json" <<'PYTHON'
import json, sys
config = json.load(open(sys.argv[1]))
assert config["config"]["Entrypoint"] == ["/k3s-registry-agent"], config
assert config["config"]["Env"] == ["RUST_BACKTRACE=0"], config
assert len(config["rootfs"]["diff_ids"]) == 1, config
PYTHON
  # Once more from the same binary: the same bytes.
  local binary
  binary=$(echo "$target"/*-unknown-linux-gnu/release/k3s-registry-agent)
  scripts/image.sh --binary "$binary" --output "$work/again.tar"
  cmp "$target/image.tar" "$work/again.tar"
}

# What the image holds, run in a root directory that has nothing but it, the inputs and what a container runtime gives.
step_smoke() {
  [ -f "$target/image.tar" ] || fail "no image: run the step image first"
  local root="$work/root" layer members
  mkdir -p "$work/layout" "$root/dev" "$root/proc" "$root/node"
  tar -C "$work/layout" -xf "$target/image.tar"
  layer=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[0]["Layers"][0])' "$work/layout/manifest.json")
  members=$(tar -tf "$work/layout/$layer")
  [ "$members" = k3s-registry-agent ] || fail "the layer holds: $members"
  tar -C "$root" -xf "$work/layout/$layer"
  cp -r examples/ghcr-migration "$root/inputs"
  touch "$root/dev/null" "$root/dev/urandom"

  if file_is_dynamic "$root/k3s-registry-agent"; then
    fail "the binary asks for a dynamic linker"
  fi
  # Its own mount namespace for the two devices and /proc; without root a user namespace as well.
  local isolate=(unshare --mount)
  [ "$(id -u)" -eq 0 ] || isolate=(unshare --user --map-root-user --mount)
  in_root() {
    # shellcheck disable=SC2016 # the variables are the inner shell's
    timeout 30 env -i RUST_BACKTRACE=0 PATH="$PATH:/usr/sbin:/sbin" "${isolate[@]}" -- bash -c '
      root=$1 && shift
      mount --bind /dev/null "$root/dev/null"
      mount --bind /dev/urandom "$root/dev/urandom"
      mount --rbind /proc "$root/proc"
      exec chroot "$root" /k3s-registry-agent "$@"' - "$root" "$@"
  }
  expect 0 in_root --version
  expect 0 in_root --help >/dev/null
  expect 3 in_root apply --inputs /inputs --root /node
  [ "$(stat -c %a "$root/node/etc/rancher/k3s/registries.yaml")" = 600 ] || fail "registries.yaml is not 0600"
  expect 0 in_root apply --inputs /inputs --root /node
}

# Whether a program has an interpreter (the program header PT_INTERP, type 3).
file_is_dynamic() {
  python3 - "$1" <<'PYTHON'
import struct, sys
data = open(sys.argv[1], "rb").read()
assert data[:5] == b"\x7fELF\x02", "no 64-bit ELF file"
offset, = struct.unpack_from("<Q", data, 32)
size, count = struct.unpack_from("<HH", data, 54)
types = [struct.unpack_from("<I", data, offset + i * size)[0] for i in range(count)]
sys.exit(0 if 3 in types else 1)
PYTHON
}

# The test bed: it is built, and does what k3s was measured to do.
step_bed() {
  end_bed_however_we_end
  scripts/testbed.sh down ${CI:+--any}
  guarded 1800 scripts/testbed.sh build --all
  guarded 1500 env SECOND_TRY="${SECOND_TRY-1}" scripts/testbed-check.sh
}

# The product on the test bed.
step_e2e() {
  local image="$target/image.tar" binary script failures=()
  binary=$(echo "$target"/*-unknown-linux-gnu/release/k3s-registry-agent)
  if ! [ -f "$image" ] || ! [ -x "$binary" ]; then fail "no image: run the step image first"; fi
  end_bed_however_we_end
  scripts/testbed.sh down ${CI:+--any}
  guarded 2100 scripts/testbed.sh up
  for script in tests/e2e/*.sh; do
    [[ "$script" != tests/e2e/lib*.sh ]] || continue
    printf '\n-- %s\n' "$script"
    guarded 1200 env IMAGE="$image" BINARY="$binary" SECOND_TRY="${SECOND_TRY-1}" "$script" || failures+=("$script")
  done
  [ "${#failures[@]}" -eq 0 ] || fail "failed: ${failures[*]}"
}

# A machine that compiles at the same time takes its time: every limit is multiplied.
export TESTBED_PATIENCE=${TESTBED_PATIENCE:-3}
# By itself the bed builds behind everything else; here all else waits for it.
export TESTBED_NICE=${TESTBED_NICE:-0}

# Runs a command with a limit, and ends it if we are to end. For the steps of the bed, which run in the background: bash
# acts on a signal only when what it waits for in the foreground is over.
running=""
guarded() {
  local limit=$1 status=0
  shift
  timeout --kill-after=30 "$limit" "$@" &
  running=$!
  wait "$running" || status=$?
  running=""
  [ "$status" -ne 124 ] || echo "not done in $limit s: $*" >&2
  return "$status"
}
end_bed_however_we_end() {
  trap 'exit 143' TERM
  trap 'if [ -n "$running" ]; then kill "$running" 2>/dev/null; wait "$running" || true; fi; scripts/testbed.sh down' EXIT
}

case "${1:-}" in
  "") steps=("${all_steps[@]}") ;;
  --unit) steps=("${unit_steps[@]}") ;;
  --list) printf '%s\n' "${all_steps[@]}" && exit 0 ;;
  -*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
  *) steps=("$@") ;;
esac
for step in "${steps[@]}"; do
  declare -F "step_$step" >/dev/null || { echo "test.sh: no step $step; --list names them" >&2 && exit 2; }
done

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
passed=0 failed=0 summary=()
for step in "${steps[@]}"; do
  printf '\n== %s\n' "$step"
  started=$SECONDS
  # Not `|| status=$?`: inside a command whose status is asked for, `set -e` is off.
  set +e
  if [[ " ${bed_steps[*]} " == *" $step "* ]]; then
    (
      set -e
      "step_$step"
    ) &
    in_background=$!
    wait "$in_background"
  else
    (
      set -e
      "step_$step"
    )
  fi
  status=$?
  in_background=""
  set -e
  took=$((SECONDS - started))
  if [ "$status" -eq 0 ]; then
    passed=$((passed + 1)) && word=passed
  else
    failed=$((failed + 1)) && word=FAILED
  fi
  line=$(printf '%-14s %s  %4d s' "$step" "$word" "$took")
  [ "$status" -ne 124 ] || line="$line (its time was up)"
  summary+=("$line")
  echo "-- $line"
done

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
printf '%-14s         %4d s\n\n' total "$SECONDS"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
