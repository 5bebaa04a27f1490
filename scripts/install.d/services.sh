# Part of scripts/install: the instances, and whether they get ready.
# shellcheck shell=bash disable=SC2154,SC2034 # what is set and used elsewhere: scripts/install

show() { systemctl show -p "$2" --value "edge-agent@$1.service"; }

instances() { # STATE…: names of the instances in one of these states
  local condition
  for condition in "$@"; do
    systemctl list-units --all --plain --no-legend --state="$condition" 'edge-agent@*.service' 2>/dev/null
  done | sed -n 's/^edge-agent@\([^ ]*\)\.service .*/\1/p' | sort -u
}

in_error() { [[ $(show "$1" StatusText) == error* ]]; } # it runs, and cannot judge: no camera

# It has told systemd that it is ready; and where it could judge before, it can again.
is_ready() {
  [ "$(show "$1" ActiveState)" = active ] || return 1
  ! in_list "$1" ${could_judge[@]+"${could_judge[@]}"} || ! in_error "$1"
}

# Whether the instance gets ready, and stays so for a moment.
wait_ready() {
  local until_s=$((SECONDS + ready_within)) ends first
  first=$(show "$1" NRestarts)
  while [ "$SECONDS" -lt "$until_s" ]; do
    ends=$(show "$1" NRestarts)
    [ "$ends" -ge "$first" ] || first=$ends
    if is_ready "$1"; then
      sleep "$SETTLE_S"
      if is_ready "$1" && [ "$(show "$1" NRestarts)" = "$ends" ]; then return 0; fi
    elif [ "$(show "$1" ActiveState)" = failed ] || [ $((ends - first)) -ge "$ENDS_MOST" ]; then
      return 1
    fi
    sleep 0.5
  done
  return 1
}

tell_why() { # NAME: what stands in its journal
  say "edge-agent@$1 is not ready: $(show "$1" ActiveState), result $(show "$1" Result)," \
    "exit code $(show "$1" ExecMainStatus); $(show "$1" StatusText)"
  # Not by -n: with --since, older ones show the first lines.
  journalctl -u "edge-agent@$1" --since "@$started" --no-pager -o cat | tail -n 15 >&2 || true
}

# start or restart, NAME…: does so and waits; 1 where one of them does not get ready. Their names are in `not_ready`.
start_all() {
  local instance started verb=$1
  shift
  not_ready=()
  started=$(date +%s)
  for instance in "$@"; do
    system systemctl "$verb" --no-block "edge-agent@$instance.service"
  done
  [ -z "$is_dry$root" ] || return 0
  for instance in "$@"; do
    if wait_ready "$instance"; then
      say "edge-agent@$instance is ready: $(show "$instance" StatusText)"
    else
      not_ready+=("$instance")
      tell_why "$instance"
    fi
  done
  [ "${#not_ready[@]}" -eq 0 ]
}
