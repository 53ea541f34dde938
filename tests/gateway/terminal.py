"""`warren shell` at a real terminal: terminal.py WARREN VM."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios

WARREN, VM = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(WARREN, [WARREN, "shell", VM])
seen = b""


def until(text, seconds=60):
    global seen
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], seconds)
        assert ready, f"no {text!r} in {seen[-2000:]!r}"
        seen += os.read(terminal, 65536)
    before, _, seen = seen.partition(text)
    return before


def typed(text):
    data = text.encode()
    while data:
        _, ready, _ = select.select([], [terminal], [], 60)
        assert ready, "it takes no input"
        data = data[os.write(terminal, data[:4096]):]


def resize(columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.kill(pid, signal.SIGWINCH)


resize(101, 31)
# What is typed is shown too, so that what is awaited is never what was typed.
typed("export PS1='$(echo ready):'\n")
until(b"ready:")
resize(120, 40)
typed("sleep 1; stty size | tr ' ' x\n")
until(b"40x120")
typed("echo $TERM | tr a-z A-Z; printf '\\033[3%dmred\\033[0m\\n' 1; echo 'gr\u00fc\u00dfe' | rev\n")
until(os.environ["TERM"].upper().encode())
until(b"\033[31mred\033[0m")
until("e\u00df\u00fcrg".encode())
typed("sleep 1000\n")
until(b"1000")
typed("\x03")
until(b"ready:")
# A paste of a MiB, in lines, into a program that takes it as it comes.
paste = "".join(f"{number:06}" + "x" * 57 + "\n" for number in range(16384))
typed("stty -echo; cat > /tmp/paste; stty echo; md5sum < /tmp/paste | cut -c1-12 | tr a-f A-F\n")
until(b"\n")
typed(paste + "\x04")
import hashlib

until(hashlib.md5(paste.encode()).hexdigest()[:12].translate(str.maketrans("abcdef", "ABCDEF")).encode(), 120)
typed("exit 42\n")
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 42, status
