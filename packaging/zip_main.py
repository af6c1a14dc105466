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
    """Run cnibox.cli with what it imports: unpacked by shiv where that can be kept, else straight from this file."""
    import os

    # shiv lets variables choose where code comes from and what of it runs. This runs as root.
    for name in [name for name in os.environ if name.startswith("SHIV_")]:
        del os.environ[name]
    path = sys.path[:]
    try:
        folder = cache_directory()
        if folder:
            os.environ["SHIV_ROOT"] = folder
            from _bootstrap import bootstrap

            bootstrap()  # ends in SystemExit
    except Exception as error:  # a full disk, a broken file in the cache: nothing that a command should fail for
        debug(error)
        for name in [name for name in sys.modules if f"{name}.".startswith(("click.", "cnibox.cli."))]:
            del sys.modules[name]
    sys.path[:] = [path[0], f"{path[0]}/site-packages", *path[1:]]
    try:
        from cnibox.cli import run

        return run()
    except Exception as error:
        debug(error)
        message = f"{type(error).__name__}: {error}"
        sys.stderr.write(
            f"cnibox: this file or its Python is incomplete: {message}; the commands need Python's whole standard "
            "library (Debian: apt install python3); the plugins do not\n"
        )
        return 1


def debug(error: Exception) -> None:
    """Print where an error arose, if CNIBOX_DEBUG=1 asks for it."""
    if posix.environ.get(b"CNIBOX_DEBUG") == b"1":
        import traceback

        sys.stderr.write("".join(traceback.format_exception(error)))


def cache_directory() -> str:
    """A folder for unpacked code that nobody but this user can have written to, by its descriptor; "" if there is none.

    By its descriptor, as whoever owns a folder above it could put another one in its place.
    """
    import os

    path = cache_path()
    try:
        os.makedirs(path, 0o700)
    except OSError:
        pass  # it is there; or it cannot be: a read-only disk, root's in a user namespace, no home
    if not os.path.lexists(path):
        return ""
    try:
        folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        fault = "it is no folder"
    else:
        status = os.fstat(folder)
        if is_unknown(status.st_uid):
            return ""
        if status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return f"/proc/self/fd/{folder}"
        fault = f"it belongs to user {status.st_uid} and has mode {status.st_mode & 0o7777:04o}"
    sys.stderr.write(
        f"cnibox: {path} is not used, for code is run from there: {fault}, and must be a folder of user "
        f"{os.geteuid()} that is closed to others (mode 0700); remove it, the commands start faster with a new one\n"
    )
    return ""


def cache_path() -> str:
    """The usual place; "" for a user who has none."""
    import os
    import pwd

    user = os.geteuid()
    if is_unknown(user):
        return ""
    try:
        return "/var/cache/cnibox" if user == 0 else f"{pwd.getpwuid(user).pw_dir}/.cache/cnibox"
    except KeyError:
        return ""


def is_unknown(user: int) -> bool:
    """Whether this number stands for all users that a user namespace does not map (user_namespaces(7))."""
    with open("/proc/self/uid_map") as mapping, open("/proc/sys/kernel/overflowuid") as overflow:
        everybody = mapping.read().split() == ["0", "0", "4294967295"]
        return not everybody and user == int(overflow.read())


status = main(sys.argv[0], sys.argv[1:], operator)
posix._exit(status)  # a plugin has written all it had to say
