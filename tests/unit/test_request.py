"""What a runtime gives is taken as the reference takes it, or refused with the reference's code and words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnibox.spec.errors import CniError
from cnibox.spec.jsontext import encode
from cnibox.spec.request import Request
from cnibox.spec.result import Result

CONFIG: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "bridge"}
ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "cid",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
}
VARIABLES = [*ENVIRON, "CNI_ARGS", "CNI_NETNS_OVERRIDE"]


def ask(environ: dict[str, str] | None = None, config: object = None, **changes: str | bytes) -> Request:
    """The request of this environment ("" unsets a variable) and configuration (bytes: stdin as it is)."""
    variables: dict[str, str | bytes] = {**(ENVIRON if environ is None else environ), **changes}
    encoded = {k.encode(): v.encode() if isinstance(v, str) else v for k, v in variables.items()}
    stdin = config if isinstance(config, bytes) else json.dumps(CONFIG if config is None else config).encode()
    request = Request.from_environment(encoded, lambda: stdin)
    assert request is not None
    return request


def refused(environ: dict[str, str] | None = None, config: object = None, **changes: str | bytes) -> CniError:
    with pytest.raises(CniError) as caught:
        ask(environ, config, **changes)
    return caught.value


def with_(**keys: object) -> dict[str, object]:
    return {**CONFIG, **keys}


def test_a_request_holds_all_that_was_given() -> None:
    request = ask(CNI_ARGS="IP=10.1.2.3;IgnoreUnknown=1")
    assert (request.command, request.container_id, request.netns) == ("ADD", "cid", "/run/netns/x")
    assert (request.ifname, request.path) == ("eth0", ["/opt/cni/bin", "/usr/lib/cni"])
    assert (request.version, request.name, request.config) == ("1.1.0", "net", CONFIG)
    assert json.loads(request.stdin) == CONFIG
    assert request.args == "IP=10.1.2.3;IgnoreUnknown=1"
    assert request.cni_args == {"IP": "10.1.2.3", "IgnoreUnknown": "1"}
    assert (request.args_cni, request.runtime, request.previous, request.valid_attachments) == (
        {},
        {},
        None,
        None,
    )


@pytest.mark.parametrize("environ", [{}, {b"CNI_COMMAND": b""}, {b"CNI_IFNAME": b"not/valid"}])
def test_without_a_command_it_is_no_request_and_stdin_is_not_read(environ: dict[bytes, bytes]) -> None:
    assert Request.from_environment(environ, lambda: pytest.fail("stdin was read")) is None


def test_version_needs_nothing_and_does_not_read_stdin() -> None:
    environ = {b"CNI_COMMAND": b"VERSION", b"CNI_CONTAINERID": b"in valid", b"CNI_IFNAME": b"dum/my"}
    request = Request.from_environment(environ, lambda: pytest.fail("stdin was read"))
    assert request is not None and request.command == "VERSION" and request.config == {}


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
        ("GC", "CNI_PATH"),
        ("STATUS", "CNI_PATH"),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_all_missing_variables_are_told_together(command: str, missing: str, empty: bool) -> None:
    environ: dict[str, str] = dict.fromkeys(VARIABLES, "") if empty else {}
    error = refused({**environ, "CNI_COMMAND": command}, b"not even JSON")
    assert (error.code, error.msg) == (4, f"required env variables [{missing}] missing")


@pytest.mark.parametrize(("command", "optional"), [("DEL", "CNI_NETNS"), ("GC", "CNI_NETNS"), ("STATUS", "CNI_IFNAME")])
def test_what_a_command_does_not_need_may_be_empty(command: str, optional: str) -> None:
    assert ask({**ENVIRON, optional: ""}, CNI_COMMAND=command).command == command


@pytest.mark.parametrize("container_id", ["a", "0", "A-b_c.d", "x" * 300])
def test_container_ids_that_the_specification_allows(container_id: str) -> None:
    assert ask(CNI_CONTAINERID=container_id).container_id == container_id


@pytest.mark.parametrize(
    "container_id",
    ["-a", ".a", "_a", "a b", "a/b", "../a", "a:b", "é", "a\n", "a\nb/c", "a\n\n", "\neth0", "\r"],
)
def test_other_container_ids_are_refused_and_shown(container_id: str) -> None:
    error = refused(CNI_CONTAINERID=container_id)
    assert (error.code, error.msg) == (4, "invalid characters in containerID")
    assert error.details == container_id.removesuffix("\r") or container_id == "\neth0"


@pytest.mark.parametrize("text", ["cid\r\neth0", "cid\neth0", "cid\r"])
def test_the_text_of_a_lease_file_means_its_container(text: str) -> None:
    """CNI_CONTAINERID=$(cat /var/lib/cni/networks/net/10.1.2.3), as tutorials do."""
    assert ask(CNI_CONTAINERID=text).container_id == "cid"


@pytest.mark.parametrize("ifname", ["e", "eth0", "a" * 15, "eth0.100", "...", "é" * 7, "-"])
def test_interface_names_that_the_kernel_takes(ifname: str) -> None:
    assert ask(CNI_IFNAME=ifname).ifname == ifname


@pytest.mark.parametrize(
    ("ifname", "msg"),
    [
        ("a" * 16, "interface name is too long"),
        ("é" * 8, "interface name is too long"),
        (".", "interface name is . or .."),
        ("..", "interface name is . or .."),
        *(
            (f"a{c}b", "interface name contains / or : or whitespace characters")
            for c in "/: \t\n\v\f\r\x85\xa0\u2028\u3000"
        ),
        ("eth%d", "interface name contains %"),
        *((f"a{c}b", "interface name contains control characters or is not UTF-8") for c in "\x01\x1b\x7f\x80"),
        (b"eth\xff", "interface name contains control characters or is not UTF-8"),
    ],
)
def test_other_interface_names_are_refused(ifname: str | bytes, msg: str) -> None:
    error = refused(CNI_IFNAME=ifname)
    assert (error.code, error.msg) == (4, msg)


def test_an_invalid_variable_is_told_before_missing_ones() -> None:
    assert refused(CNI_CONTAINERID="a b", CNI_NETNS="", CNI_IFNAME="x/y").msg == "invalid characters in containerID"
    assert refused(CNI_CONTAINERID="", CNI_IFNAME=".").msg == "interface name is . or .."
    assert refused(CNI_PATH="", CNI_IFNAME="x/y").msg.startswith("interface name contains")


def test_a_stdin_that_cannot_be_read_is_an_io_failure() -> None:
    def fail() -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(CniError) as caught:
        Request.from_environment({k.encode(): v.encode() for k, v in ENVIRON.items()}, fail)
    assert (caught.value.code, caught.value.msg) == (5, "error reading from stdin: Input/output error")


@pytest.mark.parametrize(
    ("stdin", "told"),
    [
        (b"", "expected a value"),
        (b"{", "line 1, column 2"),
        (b'{"name":\n "net",}', "line 2, column 8"),
        (b'{"name": "\xff"}', "byte 11 is not UTF-8"),
        (b'\xef\xbb\xbf{"name": "net"}', "not '\\ufeff'"),
        (b"[]", "expected an object, not []"),
        (b'"net"', 'expected an object, not "net"'),
        (b"null", "expected an object, not null"),
        (b'{"name": 5}', "name must be a string, not 5"),
        (b'{"name": ["net"]}', 'name must be a string, not ["net"]'),
        (b"[" * 100_000, "levels of nesting"),
    ],
)
def test_a_configuration_that_cannot_be_decoded_is_told_with_the_place(stdin: bytes, told: str) -> None:
    error = refused(config=stdin)
    assert error.code == 6
    assert error.msg.startswith("error unmarshall network config: ")
    assert told in error.msg


def test_an_empty_stdin_is_told_as_such() -> None:
    assert refused(config=b" \n").details.endswith("it is empty")


@pytest.mark.parametrize("config", [{}, {"name": ""}, {"name": None}, {"names": "net"}])
def test_a_network_must_have_a_name(config: object) -> None:
    error = refused(config=config)
    assert (error.code, error.msg) == (7, "missing network name")


@pytest.mark.parametrize("name", ["a b", "-a", "a/b", "é", "a\n", "\0", "\n"])
def test_a_network_name_has_the_characters_of_a_container_id(name: str) -> None:
    error = refused(config=with_(name=name))
    assert (error.code, error.msg, error.details) == (7, "invalid characters found in network name", name)


def test_keys_match_whatever_their_case() -> None:
    request = ask(
        config={
            "CNIVERSION": "1.0.0",
            "Name": "net",
            "RuntimeConfig": {"mac": "x"},
            "ARGS": {"CNI": {"a": 1}},
        }
    )
    assert (request.version, request.name, request.runtime, request.args_cni) == (
        "1.0.0",
        "net",
        {"mac": "x"},
        {"a": 1},
    )


def test_an_unknown_command_is_told_after_the_configuration_is_checked() -> None:
    environ: dict[str, str] = {"CNI_COMMAND": "ATTACH"}
    error = refused(environ, with_(cniVersion="9.9.9"))
    assert (error.code, error.msg) == (4, "unknown CNI_COMMAND: ATTACH")
    assert refused(environ, b"{").code == 6
    assert refused(environ, {}).code == 7


@pytest.mark.parametrize(
    "config", [{"name": "net"}, {"name": "net", "cniVersion": ""}, {"name": "net", "cniVersion": None}]
)
def test_a_configuration_without_version_is_of_0_1_0(config: object) -> None:
    assert ask(config=config).version == "0.1.0"


def test_a_version_of_the_wrong_type_is_a_decoding_failure() -> None:
    error = refused(config=with_(cniVersion=1.0))
    assert (error.code, error.msg) == (
        6,
        "decoding version from network config: cniVersion must be a string, not 1",
    )


@pytest.mark.parametrize(
    ("command", "version", "code", "msg"),
    [
        ("ADD", "0.5.0", 1, "incompatible CNI versions"),
        ("DEL", "2.0.0", 1, "incompatible CNI versions"),
        ("ADD", "1.0", 1, "incompatible CNI versions"),
        ("ADD", "x", 1, "incompatible CNI versions"),
        ("CHECK", "0.3.1", 1, "config version does not allow CHECK"),
        ("CHECK", "", 1, "config version does not allow CHECK"),
        ("CHECK", "1.0", 1, "incompatible CNI versions"),
        ("CHECK", "1.2.0", 1, "plugin version does not allow CHECK"),
        ("CHECK", "x", 6, 'failed to convert major version part "x"'),
        ("GC", "1.0.0", 1, "config version does not allow GC"),
        ("STATUS", "1.0.0", 1, "config version does not allow STATUS"),
        ("STATUS", "2", 1, "plugin version does not allow STATUS"),
        ("GC", "1.1.0.0", 6, 'invalid version "1.1.0.0": too many parts'),
    ],
)
def test_versions_that_do_not_allow_the_command(command: str, version: str, code: int, msg: str) -> None:
    error = refused(config=with_(cniVersion=version), CNI_COMMAND=command)
    assert (error.code, error.msg) == (code, msg)


@pytest.mark.parametrize(
    ("command", "version"),
    [("ADD", "0.1.0"), ("DEL", "0.3.0"), ("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")],
)
def test_versions_that_allow_the_command(command: str, version: str) -> None:
    assert ask(config=with_(cniVersion=version), CNI_COMMAND=command).version == version


@pytest.mark.parametrize(
    ("text", "override"),
    [("", False), ("1", True), ("true", True), ("TRUE", True), ("yes", False), ("0", False)],
)
def test_the_namespace_test_is_overridden_by_1_or_true(text: str, override: bool) -> None:
    assert ask(CNI_NETNS_OVERRIDE=text).netns_override is override


@pytest.mark.parametrize(("path", "folders"), [("/a", ["/a"]), ("/a:/b", ["/a", "/b"]), (":/a::", ["/a"])])
def test_no_plugin_is_looked_for_in_the_current_folder(path: str, folders: list[str]) -> None:
    assert ask(CNI_PATH=path).path == folders


def test_paths_may_be_any_bytes() -> None:
    assert ask(CNI_NETNS=b"/run/\xff").netns.encode("utf-8", "surrogateescape") == b"/run/\xff"


@pytest.mark.parametrize(
    ("args", "pairs"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A=1;b=", {"A": "1", "b": ""}),
        ("A=1;A=2", {"A": "2"}),
        ("=", {"": ""}),
    ],
)
def test_cni_args_are_pairs(args: str, pairs: dict[str, str]) -> None:
    assert ask(CNI_ARGS=args).cni_args == pairs


@pytest.mark.parametrize("args", ["A", "A=1;", ";", "A=1=2", "A=1;B"])
def test_cni_args_are_refused_only_when_somebody_reads_them(args: str) -> None:
    request = ask(CNI_ARGS=args)
    with pytest.raises(CniError) as caught:
        request.cni_args  # noqa: B018
    assert caught.value.code == 4
    assert caught.value.msg.startswith('ARGS: invalid pair "')


@pytest.mark.parametrize(
    ("config", "attribute"),
    [({"args": 1}, "args_cni"), ({"args": {"cni": []}}, "args_cni"), ({"runtimeConfig": "x"}, "runtime")],
)
def test_arguments_of_the_wrong_shape_are_an_invalid_configuration(config: dict[str, object], attribute: str) -> None:
    with pytest.raises(CniError) as caught:
        getattr(ask(config=with_(**config)), attribute)
    assert caught.value.code == 7
    assert "must be an object, not " in caught.value.msg


class TestPreviousResult:
    def test_is_none_if_there_was_none(self) -> None:
        assert ask().previous is None
        assert ask(config=with_(prevResult=None)).previous is None

    def test_is_empty_if_it_is_empty(self) -> None:
        assert ask(config=with_(prevResult={})).previous == Result()

    @pytest.mark.parametrize("said", [None, "", "1.0.0", "1.1.0"])
    def test_may_be_of_any_version_of_the_family(self, said: str | None) -> None:
        previous = ask(config=with_(prevResult={"cniVersion": said, "ips": [{"address": "10.1.2.3/24"}]})).previous
        assert previous is not None and str(previous.ips[0].address) == "10.1.2.3/24"

    def test_is_read_as_the_configuration_says(self) -> None:
        config = with_(cniVersion="0.2.0", prevResult={"ip4": {"ip": "10.1.2.3/24"}})
        request = ask(config=config)
        assert request.previous is not None and str(request.previous.ips[0].address) == "10.1.2.3/24"
        assert request.previous is request.previous

    @pytest.mark.parametrize(
        ("previous", "words"),
        [
            (
                {"cniVersion": "0.4.0"},
                'could not parse prevResult: result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is "0.4.0"',
            ),
            ({"cniVersion": ["1.0.0"]}, "could not parse prevResult: result type supports"),
            (
                {"ips": [{"address": 5}]},
                "could not parse prevResult: ips[0].address: must be a string, not 5",
            ),
            ([], "prevResult: must be an object, not []"),
        ],
    )
    def test_is_refused_when_read_not_before(self, previous: object, words: str) -> None:
        request = ask(config=with_(prevResult=previous))
        with pytest.raises(CniError) as caught:
            request.previous  # noqa: B018
        assert caught.value.code == 6
        assert caught.value.msg.startswith(words)


class TestValidAttachments:
    KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")

    @pytest.mark.parametrize("key", KEYS)
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (None, []),
            ([], []),
            ([{"containerID": "a", "ifname": "eth0"}], [("a", "eth0")]),
            ([{"containerid": "a", "ifName": "eth0", "more": 1}], [("a", "eth0")]),
        ],
    )
    def test_are_read_in_both_spellings(self, key: str, given: object, kept: object) -> None:
        assert ask(config=with_(**{key: given}), CNI_COMMAND="GC").valid_attachments == kept

    def test_are_unknown_if_the_runtime_does_not_say(self) -> None:
        assert ask(CNI_COMMAND="GC").valid_attachments is None

    def test_are_those_of_one_spelling_if_the_other_is_null(self) -> None:
        for null, listed in (self.KEYS, self.KEYS[::-1]):
            config = with_(**{null: None, listed: [{"containerID": "a", "ifname": "eth0"}]})
            assert ask(config=config, CNI_COMMAND="GC").valid_attachments == [("a", "eth0")]

    def test_are_all_that_either_spelling_lists(self) -> None:
        lists = [[{"containerID": c, "ifname": "eth0"} for c in ids] for ids in ("ab", "bc")]
        request = ask(config=with_(**dict(zip(self.KEYS, lists, strict=True))), CNI_COMMAND="GC")
        assert request.valid_attachments == [("a", "eth0"), ("b", "eth0"), ("c", "eth0")]

    @pytest.mark.parametrize("key", KEYS)
    @pytest.mark.parametrize(
        "given",
        [
            *({}, "a", 0, False),
            *([None], ["a"], [[]], [{}]),
            [{"containerID": "a"}],
            [{"containerID": "", "ifname": "eth0"}],
            [{"containerID": "a", "ifname": 0}],
            [{"containerID": "a", "ifname": "eth0"}, {"ifname": "eth0"}],
        ],
    )
    def test_of_the_wrong_shape_are_refused_at_once(self, key: str, given: object) -> None:
        error = refused(config=with_(**{key: given}), CNI_COMMAND="GC")
        assert error.code == 7
        assert key in error.msg


def test_a_renamed_request_is_a_copy_that_says_so_on_stdin_too() -> None:
    request = ask(config=with_(prevResult={}))
    copy = request.renamed("other")
    assert (copy.name, copy.config) == ("other", {**request.config, "name": "other"})
    assert json.loads(copy.stdin) == copy.config
    assert (copy.command, copy.container_id, copy.version) == ("ADD", "cid", request.version)
    assert request.name == "net" and json.loads(request.stdin)["name"] == "net"


BYTES = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b""))
NAMES = st.sampled_from([b"cid", b"eth0", b"1", b"A=1;B=2", b"cid\r\neth0", b""])
ENVIRONMENTS = st.builds(
    lambda command, rest: {b"CNI_COMMAND": command, **rest},
    st.sampled_from([b"ADD", b"DEL", b"CHECK", b"GC", b"STATUS", b"VERSION"]) | BYTES,
    st.dictionaries(st.sampled_from([name.encode() for name in VARIABLES[1:]]), NAMES | BYTES),
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = [
    "cniVersion", "name", "args", "cni", "runtimeConfig", "prevResult", "ips", "ip4", "address",
    "interface", "dns", "routes", "dst", "cni.dev/attachments", "cni.dev/valid-attachments", "containerID",
    "ifname",
]  # fmt: skip
JSON = st.recursive(
    SCALARS | st.sampled_from(["1.1.0", "net"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
CONFIGS = JSON.map(lambda value: json.dumps({**CONFIG, **value} if isinstance(value, dict) else value).encode())


@given(ENVIRONMENTS, CONFIGS | st.binary(max_size=60))
@settings(deadline=None, max_examples=400)
def test_whatever_is_given_only_cni_errors_come_back(environ: dict[bytes, bytes], stdin: bytes) -> None:
    try:
        request = Request.from_environment(environ, lambda: stdin)
        if request is not None:
            for attribute in ("cni_args", "args_cni", "runtime", "previous", "valid_attachments"):
                getattr(request, attribute)
    except CniError as error:
        assert 0 < error.code < 8
        printed = encode(error.as_object(), indent=4).encode()
        assert json.loads(printed)["code"] == error.code


def test_errors_read_well() -> None:
    error = CniError(7, "no such thing", "try another")
    assert str(error) == "no such thing: try another"
    assert str(error.within("adding 10.1.2.3/24 to eth0")) == "adding 10.1.2.3/24 to eth0: no such thing: try another"
    assert error.within("x").code == 7
    assert error.as_object() == {"code": 7, "msg": "no such thing", "details": "try another"}
    assert CniError(11, "later").as_object() == {"code": 11, "msg": "later"}
