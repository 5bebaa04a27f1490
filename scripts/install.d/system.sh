# Part of scripts/install: which board and system this is, and which packages it needs.
# shellcheck shell=bash disable=SC2154,SC2034 # what is set and used elsewhere: scripts/install

device_tree() {
  local property=$root/proc/device-tree/$1
  [ ! -r "$property" ] || tr '\0' '\n' <"$property"
}

model_words() {
  local model
  model=$(device_tree model)
  echo "${model:-$(uname -m)}"
}

find_board() { # desk, pi or jetson: which packages, and which drop-in
  local compatible
  compatible=$(device_tree compatible)
  case $compatible in
    *nvidia,tegra*) board=jetson ;;
    *raspberrypi,*) board=pi ;;
    *) board=desk ;;
  esac
  if [ -z "$ready_within" ]; then
    ready_within=180
    [ "$board" != jetson ] || ready_within=1800
  fi
}

be_root() {
  [ -n "$root" ] || [ -n "$is_dry" ] || [ "$(id -u)" -eq 0 ] || give_up "run it as root: sudo scripts/install …"
}

preflight() {
  be_root
  [ -f "$here/systemd/edge-agent@.service" ] || give_up "$here is not the whole of edge-agent: run it from a clone"
  [ "$(getconf LONG_BIT)" = 64 ] || give_up "this system is 32-bit, and the engines are not: install a 64-bit one"
  if [ -z "$root" ]; then
    local version
    version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ -n "$version" ] || give_up "there is no systemd here; README.md says how to install edge-agent without a service"
    [ "$version" -ge 249 ] || give_up "systemd is $version, and 249 is needed: Ubuntu 22.04, JetPack 6 or Debian 12"
  fi
  local free_mb
  free_mb=$(df -Pm "$(existing "$opt")" | awk 'NR == 2 {print $4}')
  [ "$free_mb" -ge "$NEED_MB" ] || give_up "$opt: $free_mb MB are free, and $NEED_MB MB are needed; make room there"
}

existing() { # the nearest folder above that is there
  local path=$1
  until [ -d "$path" ]; do path=$(dirname -- "$path"); done
  echo "$path"
}

alone() { # one at a time
  [ -z "$is_dry" ] || return 0
  mkdir_p "$opt"
  exec 9>"$opt/.lock"
  flock -n 9 || give_up "another installation is going on ($opt/.lock)"
}

find_python() {
  python=${PYTHON:-/usr/bin/python3}
  [ -x "$python" ] || command -v "$python" >/dev/null || install_packages python3 || true
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    give_up "$python is $("$python" --version 2>&1 || echo "not there"); Python 3.10 or newer is needed:" \
      "PYTHON=python3.12 scripts/install"
  python_version=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
}

has_modules() { "$python" -I -c "import $1" >/dev/null 2>&1; }

# MODULES PACKAGE…: whether Python has them, if need be after their packages were installed.
can_have() { has_modules "$1" || { install_packages "${@:2}" && { [ -n "$is_dry" ] || has_modules "$1"; }; }; }

# Debian's packages, where there are such; without network (--wheels) they have to be there.
install_packages() {
  if [ -n "$root" ] || { [ -n "$wheels" ] && [ "$action" != download ]; }; then return 1; fi
  command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || return 1
  local package apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
  if [ -z "$is_dry" ] && [ -z "${apt_is_fresh:-}" ]; then
    "${apt[@]}" update >&2 </dev/null || say "apt-get update failed; going on with the package lists as they are"
    apt_is_fresh=yes
  fi
  for package in "$@"; do
    apt-cache show "$package" >/dev/null 2>&1 || return 1
  done
  say "installing $* with apt-get"
  run "${apt[@]}" install -y --no-install-recommends "$@" >&2 </dev/null
}

# What pip installs for this board, in `wanted`, with the system's own packages seen or not, in `sees_system`.
choose_packages() {
  sees_system='' wanted=()
  local extras=desk,gpio
  case $board in
    pi)
      extras=pi,gpio
      if can_have picamera2,cv2 python3-picamera2 python3-opencv; then
        # An OpenCV of pip would bring a numpy that Picamera2 may not know.
        sees_system=yes extras=gpio
        wanted+=(ai-edge-litert)
      else
        say "there is no Picamera2 for $python: cameras on the board's connector cannot be used, those on USB can"
      fi
      ;;
    jetson)
      can_have cv2 nvidia-opencv || can_have cv2 python3-opencv ||
        give_up "$python has no cv2; install nvidia-opencv (docs/jetson.md), or with it all of nvidia-jetpack"
      can_have tensorrt tensorrt python3-libnvinfer ||
        say "$python has no tensorrt: ONNX Runtime will run models on the CPU (docs/jetson.md)"
      sees_system=yes extras=cuda,gpio
      wanted+=("$(cuda_bindings)" onnxruntime)
      ;;
  esac
  # The system's OpenCV and Picamera2 were built for the numpy that came with them.
  if [ -n "$sees_system" ] && { [ "$board" = jetson ] || has_numpy_1; }; then
    wanted+=('numpy<2')
  fi
  wanted=("$(own_package "$extras")" "${wanted[@]}")
}

has_numpy_1() { "$python" -I -c 'import numpy, sys; sys.exit(not numpy.__version__.startswith("1."))' 2>/dev/null; }

cuda_bindings() { # of CUDA's major version: 12 with JetPack 6, 13 with 7
  if grep -q '^# R36' "$root/etc/nv_tegra_release" 2>/dev/null; then
    echo 'cuda-bindings<13'
  else
    echo 'cuda-bindings>=13,<14'
  fi
}

own_package() { # edge-agent itself: out of the folder of wheels, or made of this clone
  if [ -n "$wheels" ] && [ "$action" != download ]; then
    echo "edge-agent[$1]==$version"
  else
    echo "${here}[$1]"
  fi
}

find_version() { # of what is to be installed
  if [ -z "$wheels" ] || [ "$action" = download ]; then
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/pyproject.toml")
    return
  fi
  local wheel
  wheel=$(find "$wheels" -maxdepth 1 -name 'edge_agent-*.whl' -printf '%f\n' | sort -V | tail -n 1)
  [ -n "$wheel" ] ||
    give_up "--wheels $wheels: no edge_agent-*.whl is there; scripts/install --download DIR makes such a folder"
  version=${wheel#edge_agent-}
  version=${version%%-*}
}
