# Part of scripts/install: the user, the journal, and a configuration.
# shellcheck shell=bash disable=SC2154,SC2034 # what is set and used elsewhere: scripts/install

make_user() {
  system systemd-sysusers "$here/systemd/edge-agent.sysusers"
  local group
  for group in video render gpio; do # cameras and GPU, GPU, input lines: as the system calls them
    if getent group "$group" >/dev/null; then system usermod -aG "$group" edge-agent; fi
  done
  system systemd-tmpfiles --create "$here/systemd/edge-agent.tmpfiles"
  [ -z "$root" ] || run mkdir -p "$etc" "$state"
}

keep_journal() {
  [ -z "$root" ] || return 0
  local storage
  storage=$(systemd-analyze cat-config systemd/journald.conf 2>/dev/null | sed -n 's/^ *Storage *= *//p' | tail -n 1)
  case ${storage:-auto} in
    persistent) return 0 ;;
    auto) [ ! -d /var/log/journal ] || return 0 ;;
  esac
  say "the journal is kept in memory only here; from now on it is kept on the disk ($journal_conf)"
  put "$here/systemd/edge-agent.journald.conf" "$journal_conf"
  run systemctl restart systemd-journald
  run journalctl --flush
}

agents() { # names of the configurations that are there
  local file
  for file in "$etc"/*.toml; do
    if grep -qs '^ *\[\[ *cameras *\]\]' "$file"; then basename "$file" .toml; fi
  done
}

choose_name() { # the instance to be set up; empty where several are there, and none is named
  [ -z "$name" ] || return 0
  local names=()
  mapfile -t names < <(agents)
  case ${#names[@]} in
    0) name=line1 ;;
    1) name=${names[0]} ;;
  esac
}

write_config() {
  local target=$etc/$name.toml
  if [ -n "$config" ] && [ -e "$target" ]; then
    cmp -s "$config" "$target" ||
      give_up "$target is there and is not the same as $config; edit it, or move it away first"
  fi
  if [ -e "$target" ]; then
    say "$target is there and stays as it is"
  elif [ -n "$is_dry" ]; then
    echo "would write: $target"
  elif [ -n "$config" ]; then
    own_file "$config" "$target"
  else
    local folder first
    folder=$("$new/bin/python" -I -c 'from edge_agent.models import bundled; print(bundled.FOLDER)')
    for first in "$folder"/bottles.*; do own_file "$first" "$etc/models/$(basename "$first")"; done
    first=$(mktemp)
    EDGE_AGENT_PYTHON=$new/bin/python "$here/scripts/first-config" "$name" "$root" >"$first"
    own_file "$first" "$target"
    rm -f "$first"
  fi
}

own_file() { # FILE DESTINATION: for the service to read, and for root alone to write
  local folder
  folder=$(dirname -- "$2")
  if [ -n "$root" ]; then
    install -D -m 0640 "$1" "$2"
  else
    [ -d "$folder" ] || install -d -o root -g edge-agent -m 0750 "$folder"
    install -o root -g edge-agent -m 0640 "$1" "$2"
  fi
}

check_config() { # as the service sees it
  [ -z "$is_dry" ] || return 0
  local command=("$new/bin/edge-agent" check --config "$etc/$name.toml")
  if [ -z "$root" ]; then
    local environ=("PATH=$PATH" "HOME=$state" "STATE_DIRECTORY=$state")
    command=(runuser -u edge-agent -- env -i "${environ[@]}" "${command[@]}")
  fi
  # LiteRT greets on standard error.
  "${command[@]}" 2>&1 >/dev/null | sed '/^INFO: Created TensorFlow/d' >&2 && return
  say "$etc/$name.toml does not pass its check: put right what stands above, then: systemctl restart edge-agent@$name"
  return 1
}

allow_only() { # the drop-in of one instance: brokers differ
  [ "${#only_to[@]}" -gt 0 ] || return 0
  local target=$units/edge-agent@$name.service.d/20-offline.conf
  if [ -n "$is_dry" ]; then
    echo "would write: $target"
    return
  fi
  local made
  made=$(mktemp)
  cp "$here/systemd/edge-agent@.service.d/20-offline.conf" "$made"
  printf 'IPAddressAllow=%s\n' "${only_to[@]}" >>"$made"
  if ! cmp -s "$made" "$target"; then
    install -D -m 0644 "$made" "$target"
    is_sealed=yes # this instance has to be restarted, and no other
  fi
  rm -f "$made"
}
