#!/usr/bin/python3
"""A call of a kubelet: call.py SOCKET METHOD < REQUEST, in JSON as the answer is. Tests of the runtime execute it.

It knows those fields of Kubernetes' Container Runtime Interface that the tests use, by their numbers
(k8s.io/cri-api/pkg/apis/runtime/v1/api.proto), and encodes them itself: so it needs no other package than grpcio.
"""
import json
import sys

import grpc

METADATA = {"name": 1, "uid": 2, "namespace": 3, "attempt": 4}
POD = {
    "metadata": (1, METADATA), "hostname": 2, "log_directory": 3, "dns_config": (4, {"servers": 1}),
    "labels": (6, {"key": 1, "value": 2}), "annotations": (7, {"key": 1, "value": 2}),
    "linux": (8, {"resources": (5, {"memory_limit_in_bytes": 4})}),
}
CONTAINER = {
    "metadata": (1, {"name": 1, "attempt": 2}), "image": (2, {"image": 1}), "command": 3, "envs": (6, {"key": 1, "value": 2}),
    "mounts": (7, {"container_path": 1, "host_path": 2, "readonly": 3}), "log_path": 11,
    "linux": (15, {"resources": (1, {"memory_limit_in_bytes": 4})}),
}
VALUE = {"value": 1}
STATS = {"cpu": (2, {"usage_core_nano_seconds": (2, VALUE)}), "memory": (3, {"working_set_bytes": (2, VALUE)})}
# The fields of a request, and of the answer.
CALLS = {
    "RunPodSandbox": ({"config": (1, POD), "runtime_handler": 2}, {"pod_sandbox_id": 1}),
    "PodSandboxStatus": (
        {"pod_sandbox_id": 1},
        {"status": (1, {"state": 3, "network": (5, {"ip": 1}), "runtime_handler": 9})}),
    "StopPodSandbox": ({"pod_sandbox_id": 1}, {}),
    "RemovePodSandbox": ({"pod_sandbox_id": 1}, {}),
    "CreateContainer": (
        {"pod_sandbox_id": 1, "config": (2, CONTAINER), "sandbox_config": (3, POD)}, {"container_id": 1}),
    "StartContainer": ({"container_id": 1}, {}),
    "StopContainer": ({"container_id": 1, "timeout": 2}, {}),
    "RemoveContainer": ({"container_id": 1}, {}),
    "ContainerStatus": ({"container_id": 1}, {"status": (1, {"state": 3, "exit_code": 7, "reason": 10})}),
    "ContainerStats": ({"container_id": 1}, {"stats": (1, STATS)}),
    "ExecSync": ({"container_id": 1, "cmd": 2, "timeout": 3}, {"stdout": 1, "stderr": 2, "exit_code": 3}),
}


def number(value):
    """A number as protobuf has it: seven bits in each byte."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def encode(value, fields):
    """The bytes of a message."""
    out = b""
    for name, given in value.items():
        field, inner = fields[name] if isinstance(fields[name], tuple) else (fields[name], None)
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, int):
                out += number(field << 3) + number(one)
                continue
            data = encode(one, inner) if inner else one.encode()
            out += number(field << 3 | 2) + number(len(data)) + data
    return out


def decode(data, fields):
    """What is known of a message."""
    names = {(it[0] if isinstance(it, tuple) else it): (name, it) for name, it in fields.items()}
    value, at = {}, 0

    def read():
        nonlocal at
        result = shift = 0
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result

    while at < len(data):
        key = read()
        if key & 7 == 2:
            length = read()
            piece = data[at:at + length]
            at += length
        elif key & 7 == 0:
            piece = read()
        else:
            raise ValueError(f"a field of kind {key & 7}")
        name, field = names.get(key >> 3, (None, None))
        if isinstance(field, tuple):
            value[name] = decode(piece, field[1])
        elif name:
            value[name] = piece.decode() if isinstance(piece, bytes) else piece
    return value


def main():
    """Performs the call; an error is told as the engine tells it."""
    socket, method = sys.argv[1:]
    request, answer = CALLS[method]
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        call = channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=lambda value: encode(value, request),
            response_deserializer=lambda data: decode(data, answer))
        try:
            print(json.dumps(call(json.load(sys.stdin), timeout=100)))
        except grpc.RpcError as error:
            sys.exit(error.details())


main()
