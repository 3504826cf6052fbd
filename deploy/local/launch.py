"""Becomes another program that cannot outlive the supervisor: `launch.py SIGNAL PARENT own|unprivileged PROGRAM …`.

Run as a script between fork and exec, in an interpreter of its own, because Python code must not run after a fork
in a process that has threads. It stays the same process, so pids and exit codes are those of PROGRAM. On Linux the
kernel sends SIGNAL when PARENT (strictly: its thread that started us) ends, however it ends. `unprivileged`, for
programs that refuse to run as root, first enters a user namespace in which our user is called nobody: files stay
ours, and no account, no chown and no open parent directories are needed.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534
EXIT_NO_NAMESPACE = 125
EXIT_ORPHANED = 126
EXIT_NO_PROGRAM = 127


def _enter_user_namespace(libc: ctypes.CDLL) -> None:
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_NOBODY} {user} 1"),
        ("gid_map", f"{_NOBODY} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def main(arguments: list[str]) -> int:
    signal_number, parent, mode, *command = arguments
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if mode == "unprivileged":
            try:
                _enter_user_namespace(libc)
            except OSError as error:
                print(f"user namespaces are not available: {error}", file=sys.stderr)
                return EXIT_NO_NAMESPACE
        # After the namespace: a change of credentials clears it.
        libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != int(parent):
            return EXIT_ORPHANED
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr)
        return EXIT_NO_PROGRAM


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
