"""Datums in protobuf (tinker_public.Datum): chunks of input, loss inputs, and where tokens came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from tinker_actors.codec.protobuf import (
    Buffers,
    as_bytes,
    as_int,
    as_text,
    fields,
    length_field,
    length_head,
    size_of,
    text_field,
    varint_field,
)
from tinker_actors.codec.tensors import memory, read_tensor, tensor_buffers
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.types import (
    Datum,
    DmelChunk,
    EncodedTextChunk,
    ImageChunk,
    ModelInput,
    ModelInputChunk,
    PromptProvenanceSpan,
    ProvenanceSpan,
    SampledProvenanceSpan,
    TensorData,
)

__all__ = ["Reader", "datum_buffers", "encode_data", "map_entry"]

# A few bytes can stand for an object of a few hundred: this bounds how many one message makes.
_MOST_PIECES = 1 << 18
_LONGEST_SHOWN = 60


def encode_data(data: Sequence[Datum]) -> Buffers:
    """The part of a request that is large and the same wherever it is sent, as a row of buffers.

    They are the arrays' own memory where nobody can change it any more, and copies where somebody can. Raises
    InvalidInput for a chunk that can't be sent in training.
    """
    out: Buffers = []
    for datum in data:
        out += length_field(3, *datum_buffers(datum))
    return out


def datum_buffers(datum: Datum) -> Buffers:
    """``datum`` as the content of a message."""
    out: Buffers = []
    for chunk in datum.model_input.chunks:
        if isinstance(chunk, EncodedTextChunk):
            tokens = memory(chunk.array)
            head = length_head(1, len(tokens))
            head = length_head(1, len(head) + len(tokens)) + head
            out += (length_head(1, len(head) + len(tokens)) + head, tokens)
        else:
            out += length_field(1, *_chunk(chunk))
    for key, tensor in datum.tensors().items():
        content = tensor_buffers(tensor)
        size = size_of(content)
        head = text_field(1, key) + length_head(2, size)
        out.append(length_head(2, len(head) + size) + head)
        out += content
    for number, spans in ((3, datum.model_input_spans), (4, datum.loss_fn_input_spans)):
        for span in spans or ():
            out += length_field(number, *_span(span))
    return out


def map_entry(value: int | memoryview) -> tuple[str, memoryview]:
    """Key and value of an entry of a map from text to bytes or messages."""
    key, content = "", memoryview(b"")
    for number, inner in fields(as_bytes(value)):
        if number == 1:
            key = as_text(inner)
        elif number == 2:
            content = as_bytes(inner)
    return key, content


@final
class Reader:
    """Reads the datums of one message, and counts what they are made of."""

    def __init__(self, what: str) -> None:
        self._message = what
        self._what = what
        self._pieces = 0
        self._data = 0

    def datum(self, data: memoryview) -> Datum:
        """The next datum, which is in ``data``. Raises DecodeError, which names it, and its tensor."""
        self._what = f"{self._message}: data[{self._data}]"
        self._data += 1
        try:
            return self._datum(data)
        except InvalidInput as error:
            raise DecodeError(f"{self._what}.{error}") from error

    def _datum(self, data: memoryview) -> Datum:
        chunks: list[ModelInputChunk] = []
        tensors: dict[str, TensorData] = {}
        spans: dict[int, list[ProvenanceSpan]] = {3: [], 4: []}
        for number, value in fields(data):
            if not 1 <= number <= 4:
                continue
            self._pieces += 1
            if self._pieces > _MOST_PIECES:
                raise DecodeError(f"{self._message}: more than {_MOST_PIECES} chunks, tensors and spans")
            if number == 1:
                chunks.append(self._chunk(as_bytes(value)))
            elif number == 2:
                key, content = map_entry(value)
                tensors[key] = self._tensor(key, content)
            else:
                spans[number].append(self._span(as_bytes(value)))
        return Datum(ModelInput(chunks=tuple(chunks)), tensors, spans[3] or None, spans[4] or None)

    def _tensor(self, key: str, data: memoryview) -> TensorData:
        where = f"{self._what}.loss_fn_inputs[{key[:_LONGEST_SHOWN]!r}]"
        try:
            return read_tensor(data, where)
        except InvalidInput as error:  # indices that don't fit
            raise DecodeError(f"{where}: {error}") from error

    def _chunk(self, data: memoryview) -> ModelInputChunk:
        chunk: ModelInputChunk | None = None
        for number, value in fields(data):  # the last one counts, as in every oneof
            match number:
                case 1:
                    chunk = self._text(as_bytes(value))
                case 2:
                    chunk = _image(as_bytes(value))
                case 3:
                    chunk = DmelChunk(bytes(_only(as_bytes(value), 1)))
                case _:
                    raise DecodeError(f"{self._what}: chunks of kind {number} are not known")
        if chunk is None:
            raise DecodeError(f"{self._what}: an empty chunk")
        return chunk

    def _text(self, data: memoryview) -> EncodedTextChunk:
        tokens = _only(data, 1)
        if len(tokens) % 4:
            raise DecodeError(f"{self._what}: tokens that are not whole int32 numbers")
        return EncodedTextChunk(np.frombuffer(tokens, "<i4"))

    def _span(self, data: memoryview) -> ProvenanceSpan:
        for number, value in fields(data):
            if number in (1, 2):
                kind = PromptProvenanceSpan if number == 1 else SampledProvenanceSpan
                sequence_id, offset, length = "", 0, 0
                for inner, content in fields(as_bytes(value)):
                    if inner == 1:
                        sequence_id = as_text(content)
                    elif inner == 2:
                        offset = as_int(content)
                    elif inner == 3:
                        length = as_int(content)
                return kind(sequence_id=sequence_id, offset=offset, length=length)
        raise DecodeError(f"{self._what}: an empty span")


def _chunk(chunk: ModelInputChunk) -> Buffers:
    if isinstance(chunk, ImageChunk):
        content = [*length_field(1, chunk.data), text_field(2, chunk.format)]
        if chunk.expected_tokens is not None:
            content.append(varint_field(3, chunk.expected_tokens))
        return length_field(2, *content)
    if isinstance(chunk, DmelChunk):
        return length_field(3, *length_field(1, chunk.dmel))
    raise InvalidInput(
        "model_input",
        f"holds a {type(chunk).__name__}, which can't be trained on",
        "Give the image itself, ImageChunk",
    )


def _span(span: ProvenanceSpan) -> Buffers:
    content: Buffers = [text_field(1, span.sequence_id)]
    if span.offset:
        content.append(varint_field(2, span.offset))
    if span.length:
        content.append(varint_field(3, span.length))
    return length_field(2 if isinstance(span, SampledProvenanceSpan) else 1, *content)


def _image(data: memoryview) -> ImageChunk:
    content, kind, expected = memoryview(b""), "", None
    for number, value in fields(data):
        if number == 1:
            content = as_bytes(value)
        elif number == 2:
            kind = as_text(value)
        elif number == 3:
            expected = as_int(value)
    return ImageChunk(bytes(content), kind, expected)  # pyright: ignore[reportArgumentType]  # it checks for itself


def _only(data: memoryview, wanted: int) -> memoryview:
    found = memoryview(b"")
    for number, value in fields(data):
        if number == wanted:
            found = as_bytes(value)
    return found
