# Part of scripts/install: versions side by side in /opt/edge-agent, and which of them is the current one.
# shellcheck shell=bash disable=SC2154,SC2034 # what is set and used elsewhere: scripts/install

# What a version is made of, as a digest: the same again needs no new one.
identity() {
  {
    printf '%s\n' "$board" "$python_version" "$(command -v "$python")" "${wanted[@]#"$here"}"
    if [ -n "$wheels" ]; then
      find "$wheels" -maxdepth 1 -name '*.whl' -printf '%f %s\n' | sort
      sha256sum <"$(find "$wheels" -maxdepth 1 -name "edge_agent-$version-*.whl" | head -n 1)"
    else
      digest_of edge_agent hardware_profiles pyproject.toml
    fi
    digest_of systemd
  } | sha256sum | cut -c1-16
}

digest_of() (
  cd -- "$here" || exit
  find "$@" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
)

current() { readlink -e "$opt/current" 2>/dev/null || true; }
previous() { readlink -e "$opt/previous" 2>/dev/null || true; }

# Makes the version beside the others, in `new`; the one that is there already is taken again.
make_version() {
  local id
  id=$(identity)
  new=$(current)
  if [ -z "$is_again" ] && [ -n "$new" ] && [ "$(cat "$new/edge-agent.complete" 2>/dev/null)" = "$id" ]; then
    say "$(basename "$new") is there already"
    return
  fi
  new=$opt/versions/$version-$(date -u +%Y%m%dT%H%M%S)
  say "making $new with Python $python_version; the first time this takes some minutes"
  remove_leftovers
  mkdir_p "$opt/versions"
  make_venv "$new" ${sees_system:+--system-site-packages}
  pip_install "$new" "${wanted[@]}" || refuse "pip could not install edge-agent"
  [ -n "$is_dry" ] && return
  cp -R "$here/systemd" "$new/systemd"
  "$new/bin/edge-agent" --version >/dev/null || refuse "the new version does not start"
  echo "$id" >"$new/edge-agent.complete"
  sync -f "$new" # the link must not be on the disk before what it points at
}

check_board() { # there are some for which there are no engines
  local facts
  [ -z "$is_dry$root" ] || return 0
  facts=$("$new/bin/edge-agent" profile detect --json)
  grep -q '^  "supported": false' <<<"$facts" || return 0
  [ "$new" = "$(current)" ] || rm -rf "$new"
  give_up "this board cannot be served: $(sed -n 's/^  "reason": "\(.*\)",$/\1/p' <<<"$facts")"
}

refuse() { # WHY
  run rm -rf "$new"
  give_up "$1: the reason stands above; nothing was changed"
}

make_venv() { # DIR [OPTION]
  if "$python" -I -c 'import ensurepip' 2>/dev/null || install_packages "python$python_version-venv"; then
    run "$python" -m venv "${@:2}" "$1"
    return
  fi
  local pip
  pip=$(find "${wheels:-/nowhere}" -maxdepth 1 -name 'pip-*.whl' 2>/dev/null | sort -V | tail -n 1)
  [ -n "$pip" ] || give_up "$python cannot make virtual environments: apt-get install python3-venv"
  run "$python" -m venv --without-pip "${@:2}" "$1"
  run "$1/bin/python" "$pip/pip" --quiet install --no-index --find-links "$wheels" pip
}

pip_install() { # VENV REQUIREMENT…
  local options=(--quiet --no-input --disable-pip-version-check --no-cache-dir --prefer-binary)
  [ -z "$wheels" ] || options+=(--no-index --find-links "$wheels")
  run "$1/bin/python" -m pip install "${options[@]}" "${@:2}" </dev/null
}

remove_leftovers() { # versions that are neither used nor the way back, and those that were cut off
  local folder
  for folder in "$opt"/versions/*/; do
    folder=${folder%/}
    [ -d "$folder" ] || continue
    [ "$folder" = "$(current)" ] || [ "$folder" = "$(previous)" ] || run rm -rf "$folder"
  done
}

point() { # LINK TARGET: in one step, so that a power cut leaves the old or the new
  run ln -sfn "$2" "$1.new"
  run mv -T "$1.new" "$1"
}

# Makes a version the current one: its units, its catalogue, the link.
switch_to() {
  local old file source target drop_in=''
  old=$(current)
  [ "$old" = "$1" ] || is_changed=yes
  for file in "${files[@]}"; do
    read -r source target <<<"$file"
    put "$1/systemd/$source" "$target"
  done
  case $board in
    jetson) drop_in=edge-agent@.service.d/10-jetson.conf ;;
    pi) drop_in=edge-agent@.service.d/10-raspberry-pi.conf ;;
  esac
  [ -z "$drop_in" ] || put "$1/systemd/$drop_in" "$units/$drop_in"
  if [ -n "$old" ] && [ "$old" != "$1" ]; then point "$opt/previous" "versions/$(basename "$old")"; fi
  point "$opt/current" "versions/$(basename "$1")"
  run sync -f "$(existing "$opt")"
  system systemctl daemon-reload
  system journalctl --quiet --update-catalog || say "the journal's catalogue could not be brought up to date"
}
