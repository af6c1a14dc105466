"""__main__.py of the one file.

A plugin is imported straight from the zip; the operator's commands go through shiv's bootstrap.
"""

import posix
import sys

if sys.version_info < (3, 11):  # noqa: UP036
    from cnibox.old_python import refuse

    sys.exit(refuse())

from cnibox.main import main


def operator() -> int:
    """Let shiv unpack what the commands import, and run cnibox.cli."""
    import os

    # shiv lets variables choose where code comes from and what of it runs. This runs as root.
    for name in [name for name in os.environ if name.startswith("SHIV_")]:
        del os.environ[name]
    try:
        os.environ["SHIV_ROOT"] = cache_directory()
        from _bootstrap import bootstrap

        bootstrap()  # ends in SystemExit
    except ImportError as error:
        if error.name and error.name.startswith("cnibox"):
            raise
        sys.stderr.write(
            f"cnibox: {error}\nThe commands for people need Python's whole standard library "
            "(Debian: apt install python3); plugins do without.\n"
        )
    return 1


def cache_directory() -> str:
    """A directory that nobody but this user can have written to: what lies there is run."""
    import os
    import pwd
    import stat

    user = os.geteuid()
    try:
        path = "/var/cache/cnibox" if user == 0 else f"{pwd.getpwuid(user).pw_dir}/.cache/cnibox"
    except KeyError:
        sys.exit(f"cnibox: user {user} is not in the user database, and so has no home for the unpacked commands")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        sys.exit(f"cnibox: the commands for people are unpacked in {path}, and it cannot be made: {error.strerror}")
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or stat.S_IMODE(found.st_mode) & 0o077:
        sys.exit(
            f"cnibox: {path} must be a directory (no link) that belongs to user {user} and is closed to others "
            "(mode 0700), because code is run from there. "
            f"It is {stat.filemode(found.st_mode)} of user {found.st_uid}. Remove it."
        )
    return path


status = main(sys.argv[0], sys.argv[1:], operator)
posix._exit(status)  # a plugin has written all it had to say
