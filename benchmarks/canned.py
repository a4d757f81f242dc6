"""A server that answers every call at once with prepared bytes, so that only the client's own cost is measured.

It speaks as much of the protocol as the official SDK 0.38.0 and our client need to sample and to train, and counts
what it was asked. It runs in a process of its own: ``async with canned_server() as server: ... server.url``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache

import msgspec
import numpy as np
import trio
from tinker.proto import tinker_public_pb2 as pb

__all__ = ["SAMPLED_TOKENS", "Answers", "CannedServer", "canned_server", "forward_backward_result"]

SAMPLED_TOKENS = 64
MODEL = "canned-model"
_JSON = b"application/json"
_PROTOBUF = b"application/x-protobuf"
_READ = 1 << 18


class CannedServer(msgspec.Struct, frozen=True):
    """A canned server in its process, listening at ``url``."""

    url: str


@asynccontextmanager
async def canned_server(*, tokens: int = 4096) -> AsyncGenerator[CannedServer]:
    """Start one on a free port of loopback; results of forward_backward have ``tokens`` logprobs a datum."""
    async with trio.open_nursery() as nursery:
        process = await nursery.start(_start, [sys.executable, "-m", "benchmarks.canned", "--tokens", str(tokens)])
        assert isinstance(process, trio.Process)
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            piece = await process.stdout.receive_some()
            if not piece:
                raise RuntimeError(f"the canned server did not start: exit code {await process.wait()}")
            line += piece
        yield CannedServer(line.decode().strip())
        process.terminate()
        nursery.cancel_scope.cancel(reason="the canned server is no longer needed")


async def _start(command: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(command, capture_stdout=False, stdout=-1, check=False, task_status=task_status)


# the server process


@cache
def _sample_result() -> bytes:
    tokens = np.arange(SAMPLED_TOKENS, dtype=np.int32)
    logprobs = np.full(SAMPLED_TOKENS, -1.5, dtype=np.float32)
    sequence = pb.SampledSequence(
        stop_reason=pb.STOP_REASON_LENGTH, tokens=tokens.tobytes(), logprobs=logprobs.tobytes()
    )
    return pb.SampleResponse(sequences=[sequence]).SerializeToString()


@cache
def forward_backward_result(datums: int, tokens: int) -> bytes:
    logprobs = np.full(datums * tokens, -2.5, dtype=np.float32)
    offsets = np.arange(datums + 1, dtype=np.int64) * tokens * 4
    tensor = pb.BatchedTensor(data=logprobs.tobytes(), offsets=offsets.tobytes(), dtype=pb.DTYPE_FLOAT32)
    record = pb.ArrayRecord(fields={"logprobs": tensor}, num_datums=datums)
    return pb.ForwardBackwardOutput(
        loss_fn_output_type="ArrayRecord", loss_fn_outputs=[record], metrics={"loss:sum": 2.5 * datums * tokens}
    ).SerializeToString()


def _count_datums(body: bytes) -> int:
    """Fields number 3 at the top level of a ForwardBackwardRequest."""
    at = count = 0
    while at < len(body):
        tag, at = _varint(body, at)
        match tag & 7:
            case 0:
                _, at = _varint(body, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(body, at)
                at += size
                count += tag >> 3 == 3
            case _:
                at += 4
    return count


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


class Answers:
    """What the server says; results of forward_backward have ``tokens`` logprobs a datum."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._count = 0

    def answer(self, path: bytes, body: bytes) -> tuple[int, bytes, bytes]:
        """Status, media type and body for a request to ``path``, the last part of its URL."""
        self._count += 1
        number = self._count
        match path:
            case b"asample":
                return 200, _JSON, b'{"request_id":"s-%d","sample_sequence_ids":["q%d"]}' % (number, number)
            case b"retrieve_future":
                return self._result(msgspec.json.decode(body)["request_id"].split("-"))
            case b"forward_backward" | b"forward":
                return 200, _JSON, b'{"request_id":"f-%d-%d"}' % (_count_datums(body), number)
            case b"optim_step":
                return 200, _JSON, b'{"request_id":"o-%d"}' % number
            case b"create_model":
                return 200, _JSON, b'{"request_id":"m-%d"}' % number
            case b"get_info":
                info = b'{"model_id":"session:train:0","model_data":{"model_name":"%b"},"is_lora":true,"lora_rank":8}'
                return 200, _JSON, info % MODEL.encode()
            case b"create_session":
                return 200, _JSON, b'{"type":"create_session","session_id":"session"}'
            case b"create_sampling_session":
                return (
                    200,
                    _JSON,
                    b'{"type":"create_sampling_session","sampling_session_id":"session:sample:%d"}' % number,
                )
            case b"get_server_capabilities":
                return 200, _JSON, b'{"supported_models":[{"model_name":"%b"}]}' % MODEL.encode()
            case b"session_heartbeat":
                return 200, _JSON, b'{"type":"session_heartbeat"}'
            case b"telemetry":
                return 200, _JSON, b'{"status":"accepted"}'
            case b"config" | b"dynamic_config" | b"finish":
                return 200, _JSON, b"{}"
            case _:
                return 404, _JSON, b'{"detail":"this server does not know %b"}' % path

    def _result(self, request_id: list[str]) -> tuple[int, bytes, bytes]:
        match request_id:
            case ["s", _]:
                return 200, _PROTOBUF, _sample_result()
            case ["f", datums, _]:
                return 200, _PROTOBUF, forward_backward_result(int(datums), self._tokens)
            case ["o", _]:
                return 200, _JSON, b'{"metrics":{"step:max":1.0}}'
            case ["m", _]:
                return 200, _JSON, b'{"type":"create_model","model_id":"session:train:0"}'
            case _:
                return 404, _JSON, b'{"detail":"unknown request id"}'


class _Server:
    def __init__(self, tokens: int) -> None:
        self._answers = Answers(tokens)

    async def connection(self, stream: trio.SocketStream) -> None:
        """Requests one after another, until the client closes or resets."""
        buffer = bytearray()
        try:
            while True:
                while (end := buffer.find(b"\r\n\r\n")) < 0:
                    piece = await stream.receive_some(_READ)
                    if not piece:
                        return
                    buffer += piece
                head = bytes(buffer[:end])
                del buffer[: end + 4]
                lines = head.split(b"\r\n")
                headers: dict[bytes, bytes] = {}
                for line in lines[1:]:
                    name, _, value = line.partition(b":")
                    headers[name.strip().lower()] = value.strip()
                if b"chunked" in headers.get(b"transfer-encoding", b""):
                    body = await self._chunked(stream, buffer)
                else:
                    body = await self._exactly(stream, buffer, int(headers.get(b"content-length", 0)))
                path = lines[0].split(b" ")[1].partition(b"?")[0].rpartition(b"/")[2]
                status, kind, content = self._answers.answer(path, body)
                reply = b"HTTP/1.1 %d OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
                await stream.send_all(reply % (status, kind, len(content), content))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _exactly(self, stream: trio.SocketStream, buffer: bytearray, size: int) -> bytes:
        while len(buffer) < size:
            piece = await stream.receive_some(_READ)
            if not piece:
                raise trio.BrokenResourceError("a body that ends early")
            buffer += piece
        body = bytes(memoryview(buffer)[:size])
        del buffer[:size]
        return body

    async def _chunked(self, stream: trio.SocketStream, buffer: bytearray) -> bytes:
        body = bytearray()
        while True:
            while (end := buffer.find(b"\r\n")) < 0:
                buffer += await stream.receive_some(_READ)
            size = int(bytes(buffer[:end]).partition(b";")[0], 16)
            del buffer[: end + 2]
            body += (await self._exactly(stream, buffer, size + 2))[:size]
            if size == 0:
                return bytes(body)


async def _serve(tokens: int) -> None:
    server = _Server(tokens)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    print(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", flush=True)
    await trio.serve_listeners(server.connection, [listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=4096)
    trio.run(_serve, parser.parse_args().tokens)
