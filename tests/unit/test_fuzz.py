"""Every reader of texts from devices and files against nonsense; long forms: ``python -m tests.fuzz --all``."""

import gzip
import io
import json
import random
import struct
import tarfile
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicelab.errors import ConfigError, DeviceUnreachableError
from devicelab.ground import toml
from tests.fuzz import files
from tests.fuzz.all import TARGETS
from tests.fuzz.target import check, joined

_MANY = b"9" * 5000
_DEEP = b"[" * 100_000


def changed(data: bytes, words: tuple[bytes, ...], chance: random.Random) -> bytes:
    """The input with up to four pieces cut out, doubled, replaced by a word or by noise."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 4, 16, 200)))
        piece = chance.choice((b"", data[at:end] * 2, chance.randbytes(end - at), *words))
        data = data[:at] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", list(TARGETS))
def test_valid_inputs_are_taken(name: str) -> None:
    assert any(check(TARGETS[name], seed) for seed in TARGETS[name].seeds())


@pytest.mark.parametrize("name", list(TARGETS))
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_what_is_almost_valid_is_taken_or_refused_and_nothing_else(name: str, seed: int) -> None:
    # A generator of our own: packed seeds hold times, so their sizes differ from call to call.
    target, chance = TARGETS[name], random.Random(seed)
    check(target, changed(chance.choice(list(target.seeds())[:20]), target.words, chance))


def chained(count: int) -> bytes:
    """Extended headers without end, each of which the standard library reads by calling itself."""
    out = io.BytesIO()
    body = b"11 a=bbbbb\n"
    for _ in range(count):
        head = tarfile.TarInfo("x")
        head.type, head.size = tarfile.XHDTYPE, len(body)
        out.write(head.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0"))
    return out.getvalue() + tarfile.TarInfo("f").tobuf() + b"\0" * 1024


def damaged(name: str) -> bytes:
    """A packed archive of which some bytes in the middle are wrong."""
    packed = bytearray(gzip.compress(files._archive(next(iter(TARGETS[name].seeds())), packed=False), 1))
    for at in range(len(packed) // 2, len(packed) // 2 + 40):
        packed[at] ^= 0x55
    return bytes(packed)


def blob(head: object) -> bytes:
    return b"Z" + json.dumps(head).encode() + b"\n"


def captured(facts: object, *nodes: object) -> bytes:
    lines = b"".join(json.dumps(node).encode() + b"\n" for node in nodes)
    return b"M" + joined(b"facts.json", json.dumps(facts).encode(), b"snapshot.jsonl", lines)


def ssh(config: str, known: bytes = b"") -> bytes:
    return joined(b"host", config.encode(), known)


_PRESENT = "/sys/devices/system/cpu/present"
_RUN = '+{"event":"run","run_id":"r","seq":0,"status":"done","t_start_ns":1,"t_end_ns":5,"t_unix_ns":1,'
_TOKEN = b"\x1e" + b"t" * 42


def found() -> Iterator[tuple[str, str, bytes]]:
    """Everything that once came out as another error, never ended or took all memory: name, target, input."""
    yield "toml nested too deep", "toml-experiment", b"a = " + _DEEP
    yield "toml number too long", "toml-lab", b"a = " + _MANY
    yield "toml key too long", "toml-experiment", b"a." * 20_000 + b"b = 1"
    yield "factors that are no table", "toml-experiment", joined(b"question = 'x'\nfactors = 5", b"k=1")
    yield "set that is no table", "toml-experiment", joined(b"question = 'x'\nset = 5", b"x=3")
    yield "--set nested too deep", "toml-experiment", joined(b"question = 'x'", b"a=" + _DEEP)
    yield "--set number too long", "toml-experiment", joined(b"question = 'x'", b"a=" + _MANY)
    for far in (b"1e300", b"inf"):
        head, job = b"name = 'n'\nbudget_s = ", b"\n[[jobs]]\nexperiment = 'quick'\ndevices = 'a'\n"
        yield f"a night of {far.decode()} seconds", "toml-farm", head + far + job
    yield "ssh port too long", "toml-lab", b"[devices.a]\naddress = 'ssh:h:" + _MANY + b"'"
    yield "adb port too long", "toml-lab", b"[devices.a]\naddress = 'adb:x@h:" + _MANY + b"'"
    yield "ssh config: port no number", "ssh", ssh("Host *\nPort abc")
    yield "ssh config: nobody's home", "ssh", ssh("Host *\nUserKnownHostsFile ~nobodyx/k")
    yield "known_hosts: salt no base64", "ssh", ssh("", b"|1|x|y ssh-ed25519 " + files._KEY.encode())
    yield "known_hosts: no salt", "ssh", ssh("", b"|1| ssh-ed25519 " + files._KEY.encode())
    yield "capture: headers without end", "capture", gzip.compress(chained(3000))
    yield "capture: damaged", "capture", damaged("capture")
    yield "capture: board no table", "capture", captured({"kernel": "4.1", "board": [1]})
    yield "capture: properties no table", "capture", captured({"kernel": "4.1", "props": [1]})
    for text in ("0-9999", "x", "3-1"):
        yield f"capture: CPUs {text}", "capture", captured({"kernel": "4.1"}, {"path": _PRESENT, "text": text})
    yield "bundle: headers without end", "bundle", chained(3000)
    yield "bundle: damaged", "bundle", damaged("bundle")
    yield "blob: column no pair", "blob", blob({"format": 1, "rows": 0, "columns": [1]})
    yield "blob: endless rows", "blob", blob({"format": 1, "rows": float("inf"), "columns": []})
    yield "blob: nested too deep", "blob", b"Z" + _DEEP + b"\n"
    yield (
        "journal: number too long",
        "journal",
        (f'\0{_RUN}"samples":{{"busy":{{"0":[1,2]}},"total":{{"0":[1,{"9" * 400}]}}}}}}\n'.encode()),
    )
    half = f'+{_RUN}"flags":[{{"code":"x","detail":"\\ud800"}}]}}\n'
    yield "journal: half a surrogate pair", "journal", b"\0" + half.encode()
    uneven = {
        f"OpenCLTimestamps/[{stamp}]n/k GWS[1] #0": {"raw": [1, 2] if stamp == "start" else [1, [2]], "unit": "ns"}
        for stamp in ("queued", "flushed", "start", "end")
    }
    yield "acl: timestamps of unlike shapes", "acl", json.dumps({"tests": {"a": {"measurements": uneven}}}).encode()
    yield (
        "acl: colours that can be shared out in many ways",
        "acl",
        (b" " * 19_000 + b"x\n" + b"k: AVG=" + b"\x1b[m" * 6000 + b"x\n"),
    )
    for answer in ('{"lease":[1]}', '{"agent":"x"}', '{"undo":[1]}', '{"undo":{"pending":5}}'):
        yield f"agent answers {answer}", "answers", b"\0" + answer.encode()
    yield "agent answers no time", "answers", b'\0{"lease":{"remaining_s":"x"}}'
    yield "agent answers too deep", "answers", b"\0" + _DEEP
    yield "agent answers no list", "answers", b'\10{"failed":5}'
    yield "snapshot nested too deep", "snapshot", _DEEP
    yield (
        "number in a path too long",
        "snapshot",
        (b'{"path":"/sys/devices/system/cpu/cpufreq/policy' + _MANY + b'/related_cpus","text":"1"}'),
    )
    for text in (b"--5", _MANY, b"\xc2\xb2", b"0-99999", b"1-0", b"x"):
        parts = (b"%d:%s" % (number, text) for number in range(200))
        yield f"nodes that say {text[:9]!r}", "nodes", joined(b"sm8150", *parts)
    yield "board: mode too long", "board-sync", b"SEND" + struct.pack("<I", 903) + b"/x," + b"9" * 900
    yield "device: exit code too long", "adb-legacy", (b"\n" + _TOKEN + b" 1\nout" + _TOKEN + _MANY + b"\n" + _TOKEN)


@pytest.mark.parametrize(("target", "data"), [pytest.param(*rest, id=name) for name, *rest in found()])
def test_what_was_found_stays_mended(target: str, data: bytes) -> None:
    check(TARGETS[target], data)


def test_a_blob_that_unpacks_to_more_than_a_run_can_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.codec, "_MAX_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="holds more than"):
        files.codec.unpack(zlib.compress(b"\0" * (1 << 24)))


def test_a_device_that_never_says_what_is_expected_is_given_up() -> None:
    with pytest.raises(DeviceUnreachableError):
        TARGETS["adb-legacy"].run(b"\n" + b"noise" * 13_000)


def test_a_file_larger_than_any_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml, "_MAX_TOML", 100)
    with pytest.raises(ConfigError, match="larger than"):
        TARGETS["toml-lab"].run(b"#" * 200)
