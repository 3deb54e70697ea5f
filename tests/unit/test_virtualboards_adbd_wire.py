"""Packets of the adb protocol, from any cut of the byte stream and from peers that lie."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtualboards.adbd import wire
from virtualboards.adbd.wire import Decoder, Packet, ProtocolError, encode

PACKETS = st.builds(
    Packet,
    st.sampled_from(sorted(wire.COMMANDS)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=200),
)


@given(st.lists(PACKETS, max_size=8), st.integers(1, 64), st.booleans())
def test_packets_come_back_however_the_stream_is_cut(packets: list[Packet], step: int, checked: bool) -> None:
    decoder = Decoder()
    decoder.verify = checked
    data = b"".join(encode(packet, with_checksum=checked) for packet in packets)
    found = [packet for at in range(0, len(data), step) for packet in decoder.feed(data[at : at + step])]
    assert found == packets


def test_a_greeting_of_a_new_peer_needs_no_checksum_but_one_of_an_old_peer_does() -> None:
    data = encode(Packet(wire.CNXN, wire.VERSION_NO_CHECKSUM, 4096, b"host::"), with_checksum=False)
    assert len(list(Decoder().feed(data))) == 1
    with pytest.raises(ProtocolError, match="checksum"):
        list(Decoder().feed(encode(Packet(wire.CNXN, wire.VERSION_MIN, 4096, b"host::"), with_checksum=False)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0" * 24, "not an adb packet"),
        (struct.pack("<6I", wire.OKAY, 1, 2, 0, 0, wire.OKAY), "not an adb packet"),
        (struct.pack("<6I", wire.WRTE, 1, 2, 5000, 0, wire.WRTE ^ 0xFFFFFFFF), "longer than"),
    ],
)
def test_what_is_not_a_packet_is_refused_before_its_payload_is_stored(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        list(Decoder(max_payload=4096).feed(data))


@given(st.binary(max_size=400))
def test_noise_ends_in_packets_or_a_protocol_error_and_nothing_else(noise: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        list(Decoder().feed(noise))
