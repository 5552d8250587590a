#!/usr/bin/env bash
# A session of GNOME's gvfs: dbus-run-session -- gvfs_session.sh davs://USER@HOST:PORT TOKEN, in an empty directory.
set -euo pipefail
at=$1 token=$2
export HOME=$PWD LC_ALL=C.UTF-8

fail() { echo "$*" >&2; exit 1; }
same() { [[ $1 == "$2" ]] || fail "not '$2' but '$1'"; }

# It asks whether to trust a certificate that nobody signed, then for the token.
printf '1\n%s\n' "$token" | gio mount "$at/"
gio mkdir "$at/Nouveau dossier"
head -c 300000 /dev/urandom >here
gio copy here "$at/Nouveau dossier/été & <co>.bin"
same "$(gio list "$at/Nouveau dossier")" "été & <co>.bin"
gio cat "$at/Nouveau dossier/été & <co>.bin" | cmp - here
echo one | gio save "$at/Nouveau dossier/text.txt"
echo two, longer | gio save "$at/Nouveau dossier/text.txt"
same "$(gio cat "$at/Nouveau dossier/text.txt")" 'two, longer'
# What kind of file it is says its name.
gio info -a standard::content-type,standard::fast-content-type "$at/Nouveau dossier/text.txt" | grep -q text/plain ||
    fail "$(gio info "$at/Nouveau dossier/text.txt")"
gio rename "$at/Nouveau dossier/text.txt" renamed.txt
gio copy "$at/Nouveau dossier/renamed.txt" "$at/copied.txt"
gio move "$at/Nouveau dossier/renamed.txt" "$at/moved.txt"
same "$(gio cat "$at/copied.txt" "$at/moved.txt")" $'two, longer\ntwo, longer'
gio info -f "$at/" | grep -q 'filesystem::free: [1-9]' || fail "$(gio info -f "$at/")"
if gio cat "$at/nothing" 2>/dev/null; then fail 'something that is not there was read'; fi
gio remove "$at/Nouveau dossier/été & <co>.bin" "$at/Nouveau dossier" "$at/copied.txt" "$at/moved.txt"
same "$(gio list "$at/")" ''
gio mount -u "$at/"
