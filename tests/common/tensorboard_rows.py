"""Reads TensorBoard event files back, without TensorBoard: length-prefixed protocol buffers."""

import struct

from tensorboardX.proto.event_pb2 import Event


def scalars(folder):
    """{tag: {step: value}} of all event files in `folder`."""
    found = {}
    for path in sorted(folder.iterdir()):
        raw, at = path.read_bytes(), 0
        while at < len(raw):
            (length,) = struct.unpack_from("<Q", raw, at)
            event = Event.FromString(raw[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found
