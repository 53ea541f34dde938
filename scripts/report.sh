# How the scripts beside this file speak: sourced, never run. One line for what happens,
# one line of help for what failed.

say() { printf '%s\n' "$*"; }

# fail MESSAGE HELP: what went wrong, what to do about it; ends the script.
fail() {
    printf '%s: %s\n  help: %s\n' "${0##*/}" "$1" "$2" >&2
    exit 1
}

# fail_apt WHAT LOG: turns apt's own words into one cause and one remedy.
fail_apt() {
    local what=$1 log=$2 cause
    cause=$(grep -E '^(E|Err):?' "$log" | tail -n 3)
    printf '%s\n' "${cause:-$(tail -n 5 "$log")}" >&2
    case $(cat "$log") in
        *'No space left'* | *'enough free space'*)
            fail "$what: the disk is full" "free 3 GiB on / and /var, then run it again" ;;
        *'Could not resolve'* | *'Temporary failure'* | *'Unable to connect'* | *'Connection failed'* | *'Cannot initiate'* | *'Failed to fetch'*)
            fail "$what: the package server cannot be reached" "check the network (and http_proxy) with 'apt-get update', then run it again" ;;
        *'Could not get lock'*)
            fail "$what: another package manager is at work" "wait for it to end, then run it again" ;;
        *'are you root'* | *'Permission denied'*)
            fail "$what: not allowed" "run it as root or through sudo" ;;
        *'Unable to locate package'* | *'no installation candidate'*)
            fail "$what: the package is not known here" "this needs Debian 12 with its 'main' archive in /etc/apt/sources.list" ;;
        *)
            fail "$what: apt-get failed" "the lines above are apt's (all of them: $log); repair with 'apt-get -f install', then run it again" ;;
    esac
}
