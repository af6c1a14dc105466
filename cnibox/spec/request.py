"""What a runtime asks of a plugin: the environment and the network configuration on stdin, validated.

The order of the validations, their codes and words are those of the reference's skeleton (library 1.2.0 and
later). Older ones, such as Debian 12's, test in another order: if several errors apply, they report another.
"""

from __future__ import annotations

from . import jsontext, versions
from .errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    CniError,
)
from .jsontext import has_member, member
from .result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ATTACHMENT = ("ADD", "CHECK", "DEL")
_WITH_CONFIG = ("ADD", "CHECK", "DEL", "GC", "STATUS")

# variable, the commands that require it; in the order in which they are tested and reported.
_REQUIRED = (
    ("CNI_CONTAINERID", _ATTACHMENT),
    ("CNI_NETNS", ("ADD", "CHECK")),
    ("CNI_IFNAME", _ATTACHMENT),
    ("CNI_PATH", _WITH_CONFIG),
)
# since which version of the specification a configuration allows the command
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}

NAME_MAX = 255
"""Bytes of the name of a file (linux/limits.h), or of a chain of nftables."""
NETWORK_NAME, CONTAINER_ID = "network name", "container ID"

# "cni.dev/attachments" is how drafts of the specification spelled it; libcni sends both.
_ATTACHMENT_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


class Request:
    """One execution of a plugin. Every attribute that comes from an unset variable or absent key is empty.

    command       "ADD", "CHECK", "DEL", "GC", "STATUS" or "VERSION" (of which nothing else is set)
    container_id, netns (a path), ifname, args (CNI_ARGS as given), path (the folders of CNI_PATH)
    netns_override  whether CNI_NETNS may be the namespace of the host
    stdin, config   the network configuration as read, and decoded
    version, name   cniVersion (0.1.0 if absent) and name of the network
    program         path of the running plugin, for whoever needs it (set by skel)
    """

    def __init__(
        self,
        command: str,
        *,
        container_id: str = "",
        netns: str = "",
        ifname: str = "",
        args: str = "",
        path: list[str] | None = None,
        netns_override: bool = False,
        stdin: bytes = b"",
        config: dict[str, object] | None = None,
        version: str = versions.UNSAID,
        name: str = "",
    ) -> None:
        self.command = command
        self.container_id = container_id
        self.netns = netns
        self.ifname = ifname
        self.args = args
        self.path = path or []
        self.netns_override = netns_override
        self.stdin = stdin
        self.config = config or {}
        self.version = version
        self.name = name
        self.program = ""
        self._previous: Result | None = None

    @classmethod
    def from_environment(cls, environ: dict[bytes, bytes], read_stdin: Callable[[], bytes]) -> Request | None:
        """The request, or None without CNI_COMMAND: a person ran the plugin. CniError if it is not valid.

        `read_stdin` returns all of stdin; it is called at most once, and not for VERSION.
        """
        command = _variable(environ, "CNI_COMMAND")
        if not command:
            return None
        _validate_variables(command, environ)
        request = cls(
            command,
            container_id=_container_id(environ),
            netns=_variable(environ, "CNI_NETNS"),
            ifname=_variable(environ, "CNI_IFNAME"),
            args=_variable(environ, "CNI_ARGS"),
            path=[folder for folder in _variable(environ, "CNI_PATH").split(":") if folder],
            netns_override=_variable(environ, "CNI_NETNS_OVERRIDE").lower() in ("1", "true"),
        )
        if command != "VERSION":
            request._read_config(read_stdin)
        return request

    def _read_config(self, read_stdin: Callable[[], bytes]) -> None:
        try:
            self.stdin = read_stdin()
        except OSError as error:
            raise CniError(IO_FAILURE, f"error reading from stdin: {error.strerror}") from error
        self.config = _decode_config(self.stdin)
        self.name = _network_name(self.config)
        if self.command not in _WITH_CONFIG:
            known = f"known: {' '.join(_WITH_CONFIG)} VERSION"
            raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {self.command}", known)
        self.version = _version(self.config)
        try:
            _require_command_allowed(self.command, self.version)
        except CniError as error:
            raise error.advising(self.version_advice) from None
        if self.command == "GC":
            self.valid_attachments  # noqa: B018  a garbled list must fail here, before anything is collected

    @property
    def version_advice(self) -> str:
        """For errors that a later version would not have; "" if the configuration names its version."""
        if member(self.config, "cniVersion"):
            return ""
        text = f'the configuration has no "cniVersion", which means {versions.UNSAID}'
        return f'{text}; add one, such as "cniVersion": "{versions.CURRENT}"'

    @property
    def cni_args(self) -> dict[str, str]:
        """CNI_ARGS "K=V;K2=V2", a deprecated way to give options. CniError 4 unless each has just one "="."""
        pairs: dict[str, str] = {}
        for pair in self.args.split(";") if self.args else ():
            key, equals, value = pair.partition("=")
            if not equals or "=" in value:
                raise CniError(
                    INVALID_ENVIRONMENT,
                    f"ARGS: invalid pair {jsontext.quoted(pair)}",
                    'CNI_ARGS must be KEY=VALUE;KEY=VALUE, with no other "=" or ";"',
                )
            pairs[key] = value
        return pairs

    @property
    def args_cni(self) -> dict[str, object]:
        """config["args"]["cni"], the convention that replaces CNI_ARGS. CniError 7 if it is no object."""
        return _object(_object(self.config, "args", "args"), "cni", "args.cni")

    @property
    def runtime(self) -> dict[str, object]:
        """config["runtimeConfig"]: the arguments of the capabilities. CniError 7 if it is no object."""
        return _object(self.config, "runtimeConfig", "runtimeConfig")

    @property
    def previous(self) -> Result | None:
        """The result of the plugins before this one, None if there were none. CniError 6 if it is garbled.

        prevResult without a version has the configuration's; with one, it must be of the same family. DEL and GC take
        one that is garbled, or of another version, for none: it would fail them for ever.
        """
        try:
            return self._read_previous()
        except CniError:
            if self.command in ("DEL", "GC"):
                return None
            raise

    def _read_previous(self) -> Result | None:
        given = member(self.config, "prevResult")
        if self._previous is None and given is not None:
            if not isinstance(given, dict):
                text = f"prevResult: must be an object, not {jsontext.quoted(given)}"
                raise CniError(DECODING_FAILURE, text)
            said = member(given, "cniVersion")
            fitting = versions.same_family(self.version)
            if said and said not in fitting:
                raise CniError(
                    DECODING_FAILURE,
                    f"could not parse prevResult: result type supports [{' '.join(fitting)}] "
                    f"but unmarshalled CNIVersion is {jsontext.quoted(said)}",
                    f"all plugins of a list must be given its cniVersion, here {self.version}",
                ).advising(self.version_advice)
            try:
                self._previous = Result.from_object(given, self.version)
            except CniError as error:
                raise error.within("could not parse prevResult") from None
        return self._previous

    @property
    def valid_attachments(self) -> list[tuple[str, str]] | None:
        """What GC must keep, as (container ID, interface name). CniError 7 if garbled.

        None if neither key is there: nothing may be collected then. An empty list, or null, says that none is valid:
        libcni sends null for a list without elements.
        """
        kept: dict[tuple[str, str], None] | None = None
        for key in _ATTACHMENT_KEYS:  # if both are there, what either lists is kept
            if not has_member(self.config, key):
                continue
            given = member(self.config, key)
            if given is not None and not isinstance(given, list):
                text = f'option "{key}": must be a list, not {jsontext.quoted(given)}'
                raise CniError(INVALID_CONFIG, text)
            kept = kept or {}
            for index, entry in enumerate(given or ()):
                kept[_attachment(entry, f"{key}[{index}]")] = None
        return None if kept is None else list(kept)

    def require_fits(self, what: str, name: str) -> None:
        """CniError unless `name`, which the NETWORK_NAME or the CONTAINER_ID is part of, can name a file or a chain."""
        excess = len(name.encode()) - NAME_MAX
        if excess > 0:
            code, text = INVALID_CONFIG, self.name
            if what == CONTAINER_ID:
                code, text = INVALID_ENVIRONMENT, self.container_id
            limit = f"{len(text)} bytes; at most {len(text) - excess} fit into the name {name}"
            raise CniError(code, f"{what} is too long", limit)

    def renamed(self, name: str) -> Request:
        """The same request for a network of another name, in the configuration and on stdin, too."""
        copy = Request(self.command)
        copy.__dict__.update(self.__dict__)
        copy.name = name
        copy.config = {key: value for key, value in self.config.items() if key.lower() != "name"} | {"name": name}
        copy.stdin = jsontext.encode(copy.config).encode()
        return copy


def is_name(text: str) -> bool:
    """Whether `text` may name a container or a network: [a-zA-Z0-9][a-zA-Z0-9_.-]*."""
    rest = text.replace("_", "").replace(".", "").replace("-", "")
    return text.isascii() and rest.isalnum() and text[0].isalnum()


def interface_name_fault(name: str) -> tuple[str, str]:
    """Why this cannot name an interface, as (msg, details) in the reference's words; both empty if it can."""
    if not name:
        return "interface name is empty", ""
    if len(name.encode("utf-8", "surrogateescape")) > 15:
        return "interface name is too long", "interface name should be less than 16 characters"
    if name in (".", ".."):
        return "interface name is . or ..", ""
    if any(each in "/:" or each.isspace() for each in name):
        return "interface name contains / or : or whitespace characters", ""
    # Beyond the reference: a name that the kernel would replace by another, and those that no JSON can carry.
    if "%" in name:
        return "interface name contains %", "the kernel would put a number there"
    if any(each < " " or "\x7f" <= each <= "\x9f" or "\ud800" <= each <= "\udfff" for each in name):
        return "interface name contains control characters or is not UTF-8", jsontext.quoted(name)
    return "", ""


def _variable(environ: dict[bytes, bytes], name: str) -> str:
    return environ.get(name.encode(), b"").decode("utf-8", "surrogateescape")


def _container_id(environ: dict[bytes, bytes]) -> str:
    """CNI_CONTAINERID, also when it comes from $(cat <host-local's lease file>): "ID", CR LF and "IFNAME"."""
    text = _variable(environ, "CNI_CONTAINERID")
    identifier, newline, ifname = text.partition("\n")
    if newline and interface_name_fault(ifname)[0]:
        return text
    return identifier.removesuffix("\r")


def _validate_variables(command: str, environ: dict[bytes, bytes]) -> None:
    missing = []
    for variable, commands in _REQUIRED:
        if command not in commands:
            continue
        if not environ.get(variable.encode()):
            missing.append(variable)
        elif variable == "CNI_CONTAINERID":
            _validate_container_id(_container_id(environ))
        elif variable == "CNI_IFNAME":
            fault, details = interface_name_fault(_variable(environ, variable))
            if fault:
                raise CniError(INVALID_ENVIRONMENT, fault, details)
    if missing:
        raise CniError(
            INVALID_ENVIRONMENT,
            f"required env variables [{','.join(missing)}] missing",
            "a container runtime sets them: see https://www.cni.dev/docs/spec/#parameters",
        )


def _validate_container_id(container_id: str) -> None:
    if not is_name(container_id):
        raise CniError(INVALID_ENVIRONMENT, "invalid characters in containerID", container_id)


def _decode_config(stdin: bytes) -> dict[str, object]:
    try:
        config = jsontext.decode(stdin.decode())
    except UnicodeDecodeError as error:
        fault = f"byte {error.start + 1} is not UTF-8"
    except ValueError as error:
        fault = str(error)
    else:
        if isinstance(config, dict):
            return config
        fault = f"expected an object, not {jsontext.quoted(config)}"
    hint = "give the network configuration, one JSON object, on stdin"
    raise CniError(
        DECODING_FAILURE,
        f"error unmarshall network config: {fault}",
        f"{hint}: it is empty" if not stdin.strip() else hint,
    )


def _network_name(config: dict[str, object]) -> str:
    name = member(config, "name")
    if name is None or name == "":
        raise CniError(INVALID_CONFIG, "missing network name", 'the configuration must have a "name"')
    if not isinstance(name, str):
        text = f"error unmarshall network config: name must be a string, not {jsontext.quoted(name)}"
        raise CniError(DECODING_FAILURE, text)
    if not is_name(name):
        raise CniError(INVALID_CONFIG, "invalid characters found in network name", name)
    return name


def _version(config: dict[str, object]) -> str:
    version = member(config, "cniVersion")
    if version is not None and not isinstance(version, str):
        text = f"cniVersion must be a string, not {jsontext.quoted(version)}"
        raise CniError(DECODING_FAILURE, f"decoding version from network config: {text}")
    return version or versions.UNSAID


def _require_command_allowed(command: str, version: str) -> None:
    if command in _SINCE:
        if not versions.at_least(version, _SINCE[command]):
            raise CniError(
                INCOMPATIBLE_VERSION,
                f"config version does not allow {command}",
                f'cniVersion is "{version}", {command} came with {_SINCE[command]}',
            )
        if not versions.at_least(versions.CURRENT, version):
            raise CniError(
                INCOMPATIBLE_VERSION,
                f"plugin version does not allow {command}",
                f'config is "{version}", the plugin supports up to {versions.CURRENT}',
            )
    versions.require_supported(version)


def _object(config: dict[str, object], key: str, path: str) -> dict[str, object]:
    given = member(config, key)
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise CniError(INVALID_CONFIG, f'option "{path}": must be an object, not {jsontext.quoted(given)}')
    return given


def _attachment(entry: object, path: str) -> tuple[str, str]:
    if isinstance(entry, dict):
        container_id, ifname = member(entry, "containerID"), member(entry, "ifname")
        if isinstance(container_id, str) and isinstance(ifname, str) and container_id and ifname:
            return container_id, ifname
    raise CniError(
        INVALID_CONFIG,
        f'option "{path}": must be {{"containerID": "...", "ifname": "..."}}, not {jsontext.quoted(entry)}',
    )
