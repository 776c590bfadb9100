"""Reads TensorBoard event files, which are length-prefixed protocol buffers, without TensorBoard."""

import struct

from tensorboardX.proto.event_pb2 import Event


def scalars(folder):
    """Returns {tag: {step: value}} of all event files in `folder`."""
    found = {}
    for path in sorted(folder.iterdir()):
        raw, offset = path.read_bytes(), 0
        while offset < len(raw):
            (length,) = struct.unpack_from("<Q", raw, offset)
            event = Event.FromString(raw[offset + 12 : offset + 12 + length])
            offset += 12 + length + 4
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found
