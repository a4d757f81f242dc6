"""What each kind of operation sends, gets and makes of its chunks' results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np

from tinker_actors.checks import flag, integer, number, text, texts
from tinker_actors.clients.training.combine import combine_outputs, with_local_loss
from tinker_actors.clients.training.data_processor import datum_size, split
from tinker_actors.clients.training.losses import check_inputs, check_settings, known_loss
from tinker_actors.codec.digest import operation_digest
from tinker_actors.codec.forward_backward import encode_data
from tinker_actors.errors import InvalidInput
from tinker_actors.ledger import Chunk, Operation, OperationKind
from tinker_actors.ledger.operation import TrainingRequest
from tinker_actors.types import (
    AdamParams,
    ClientConfig,
    Datum,
    DimuonParams,
    ForwardBackwardOutput,
    ForwardBackwardRequest,
    GetInfoResponse,
    LoadWeightsRequest,
    LoadWeightsResponse,
    ModelInput,
    OptimStepRequest,
    OptimStepResponse,
    OtherOptimizer,
    Promise,
    SaveWeightsExternalRequest,
    SaveWeightsExternalResponse,
    SaveWeightsForSamplerRequest,
    SaveWeightsForSamplerResponse,
    SaveWeightsRequest,
    SaveWeightsResponse,
    checkpoint_name,
    checkpoint_path,
    optimizer_fields,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.training import Pack, forward_backward, optim_step
from tinker_actors.wire.endpoints.weights import (
    load_weights,
    save_weights,
    save_weights_external,
    save_weights_for_sampler,
)

__all__ = [
    "REQUEST_TYPES",
    "RESULT_TYPES",
    "SamplerKind",
    "StepParams",
    "backward_chunk",
    "combine",
    "custom_chunks",
    "external_chunk",
    "filler",
    "forward_chunks",
    "load_chunk",
    "optim_chunk",
    "problem_of",
    "require_kind",
    "sampler_chunk",
    "save_chunk",
    "submit",
]

SamplerKind: TypeAlias = Literal["snapshot", "inflight"]
StepParams: TypeAlias = AdamParams | DimuonParams | OtherOptimizer
"""Parameters of one step, of the family that the model's optimizer is of (WIRE 5.6)."""

_LONGEST_TTL = 100 * 365 * 24 * 3600  # seconds: what servers can add to a date
_SMALL = 256  # bytes charged for an operation that carries no data

RESULT_TYPES: Mapping[OperationKind, type[Any]] = {
    OperationKind.FORWARD: ForwardBackwardOutput,
    OperationKind.FORWARD_BACKWARD: ForwardBackwardOutput,
    OperationKind.FORWARD_BACKWARD_CUSTOM: ForwardBackwardOutput,
    OperationKind.OPTIM_STEP: OptimStepResponse,
    OperationKind.SAVE_STATE: SaveWeightsResponse,
    OperationKind.SAVE_WEIGHTS_FOR_SAMPLER: SaveWeightsForSamplerResponse,
    OperationKind.SAVE_WEIGHTS_EXTERNAL: SaveWeightsExternalResponse,
    OperationKind.LOAD_STATE: LoadWeightsResponse,
}

# what polls say in X-Tinker-Request-Type
REQUEST_TYPES: Mapping[OperationKind, str] = {
    OperationKind.FORWARD: "Forward",
    OperationKind.FORWARD_BACKWARD: "ForwardBackward",
    OperationKind.FORWARD_BACKWARD_CUSTOM: "ForwardBackward",
    OperationKind.OPTIM_STEP: "OptimStep",
    OperationKind.SAVE_STATE: "SaveWeights",
    OperationKind.SAVE_WEIGHTS_FOR_SAMPLER: "SaveWeightsForSampler",
    OperationKind.SAVE_WEIGHTS_EXTERNAL: "SaveWeightsExternal",
    OperationKind.LOAD_STATE: "LoadWeights",
}


def forward_chunks(
    data: Sequence[Datum],
    loss_fn: str,
    loss_fn_config: Mapping[str, float | str] | None,
    *,
    forward_only: bool,
    server: ClientConfig,
    info: GetInfoResponse | None,
    extra_loss_fns: tuple[str, ...] = (),
) -> tuple[Chunk, ...]:
    """The chunks of forward or forward_backward. Raises InvalidInput, naming the datum and the field.

    ``extra_loss_fns`` are losses whose inputs only the server knows.
    """
    if not isinstance(data, list | tuple):
        raise InvalidInput("data", f"is of type {type(data).__name__}", "Give a list of Datum")
    loss_fn = known_loss(loss_fn, extra_loss_fns)
    config = _loss_config(loss_fn_config)
    check_settings(loss_fn, config)
    vocabulary = info.model_data.vocab_size if info is not None else None
    for index, datum in enumerate(data):
        if not isinstance(datum, Datum):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
            raise InvalidInput(f"data[{index}]", f"is of type {type(datum).__name__}", "Give a Datum")
        check_inputs(loss_fn, extra_loss_fns, f"data[{index}]", datum)
        _check_vocabulary(index, datum, vocabulary)
    pieces = split(data, max_len=server.fwdbwd_max_chunk_len, max_bytes=server.fwdbwd_max_chunk_bytes_count)
    return tuple(
        _chunk(
            ForwardBackwardRequest(
                model_id="",
                seq_id=0,
                data=piece,
                loss_fn=loss_fn,
                loss_fn_config=config,
                forward_only=forward_only,
            ),
            sum(map(datum_size, piece)),
        )
        for piece in pieces
    )


def custom_chunks(data: Sequence[Datum], *, server: ClientConfig, info: GetInfoResponse | None) -> tuple[Chunk, ...]:
    """The forward pass of a custom loss: of each datum what cross_entropy takes, and nothing else leaves."""
    if isinstance(data, list | tuple):
        data = [_for_cross_entropy(datum) if isinstance(datum, Datum) else datum for datum in data]  # pyright: ignore[reportUnnecessaryIsInstance]
    return forward_chunks(data, "cross_entropy", None, forward_only=True, server=server, info=info)


def backward_chunk(chunk: Chunk, gradients: Iterator[Any]) -> Chunk:
    """The backward pass of a custom loss for the datums of ``chunk``: their weights are minus their gradients."""
    request = chunk.request
    assert isinstance(request, ForwardBackwardRequest)
    data = tuple(_with_weights(datum, -next(gradients)) for datum in request.data)
    surrogate = msgspec.structs.replace(request, data=data, forward_only=False)
    return _chunk(surrogate, sum(map(datum_size, data)))


def optim_chunk(params: StepParams | None, adam_params: AdamParams | None = None) -> Chunk:
    """The one chunk of optim_step, by one of both."""
    cure = "Give AdamParams(learning_rate=...), or the parameters of the model's own optimizer"
    if params is not None and adam_params is not None:
        raise InvalidInput("adam_params", "is given besides optim_params", "Give one of them")
    given: Any = params if params is not None else adam_params
    if isinstance(given, AdamParams):
        return _chunk(OptimStepRequest(model_id="", seq_id=0, adam_params=given), _SMALL)
    if isinstance(given, DimuonParams | OtherOptimizer):
        return _chunk(OptimStepRequest(model_id="", seq_id=0, optimizer_params=optimizer_fields(given)), _SMALL)
    problem = "is missing" if given is None else f"is of type {type(given).__name__}"
    raise InvalidInput("optim_params" if adam_params is None else "adam_params", problem, cure)


def save_chunk(
    name: str,
    ttl_seconds: int | None,
    *,
    overwrite: bool = False,
    user_metadata: Mapping[str, str] | None = None,
) -> Chunk:
    """The one chunk of save_state."""
    request = SaveWeightsRequest(
        model_id="",
        seq_id=0,
        path=checkpoint_name(name),
        ttl_seconds=_ttl(ttl_seconds),
        overwrite=flag("overwrite", overwrite),
        user_metadata=texts("user_metadata", user_metadata) or None,
    )
    return _chunk(request, _SMALL)


def sampler_chunk(
    name: str | None,
    sampling_session_seq_id: int | None,
    ttl_seconds: int | None,
    *,
    user_metadata: Mapping[str, str] | None = None,
    kind: str = "snapshot",
) -> Chunk:
    """The one chunk of save_weights_for_sampler: under a name, or for one sampling session."""
    require_kind(kind)
    if kind == "inflight" and name is not None:
        raise InvalidInput("kind", '"inflight" weights have no name', 'Leave name out, or use "snapshot"')
    request = SaveWeightsForSamplerRequest(
        model_id="",
        seq_id=0,
        path=checkpoint_name(name) if name is not None else None,
        sampling_session_seq_id=sampling_session_seq_id,
        kind=kind,
        ttl_seconds=_ttl(ttl_seconds),
        user_metadata=texts("user_metadata", user_metadata) or None,
    )
    return _chunk(request, _SMALL)


def external_chunk(name: str, ttl_seconds: int | None, recipients: Sequence[str] | None) -> Chunk:
    """The one chunk of save_weights_external."""
    if recipients is not None:
        field, cure = "age_encryption_recipients", "Give a list of age1... or SSH public keys"
        if not isinstance(recipients, list | tuple):
            raise InvalidInput(field, f"is of type {type(recipients).__name__}", cure)
        recipients = tuple([text(f"{field}[{index}]", key, cure) for index, key in enumerate(recipients)])
    request = SaveWeightsExternalRequest(
        model_id="",
        seq_id=0,
        path=checkpoint_name(name),
        ttl_seconds=_ttl(ttl_seconds),
        age_encryption_recipients=recipients,
    )
    return _chunk(request, _SMALL)


def require_kind(kind: object) -> None:
    """Raise InvalidInput unless samplers' weights are of such a kind."""
    if kind not in get_args(SamplerKind):
        raise InvalidInput("kind", f"{kind!r} is none", 'Use "snapshot" or "inflight"')


def load_chunk(path: str, access_token: str | None = None, *, optimizer: bool) -> Chunk:
    """The one chunk of load_state; ``access_token`` is the leave of the checkpoint's owner."""
    checkpoint_path(path, kind="weights")
    if access_token is not None:
        cure = "Give the token that the checkpoint's owner gave you"
        access_token = text("weights_access_token", access_token, cure)
    request = LoadWeightsRequest(
        model_id="", seq_id=0, path=path, optimizer=optimizer, weights_access_token=access_token
    )
    return _chunk(request, _SMALL)


def filler() -> Chunk:
    """A request that changes nothing, for a seq_id whose operation was refused."""
    datum = Datum(ModelInput.from_ints([0]), {"target_tokens": [0], "weights": [0.0]})
    return _chunk(
        ForwardBackwardRequest(model_id="", seq_id=0, data=(datum,), loss_fn="cross_entropy", forward_only=True),
        _SMALL,
    )


async def submit(
    api: Api, chunk: Chunk, *, model_id: str, seq_id: int, key: str, attempt: int = 0, pack: Pack | None = None
) -> Promise:
    """Send one chunk under its seq_id, packed by ``pack``; one attempt, before which ``attempt`` others failed."""
    addressed = msgspec.structs.replace(chunk.request, model_id=model_id, seq_id=seq_id)
    match addressed:
        case ForwardBackwardRequest():
            return await forward_backward(api, addressed, key=key, attempt=attempt, data=chunk.data, pack=pack)
        case OptimStepRequest():
            return await optim_step(api, addressed, key=key, attempt=attempt)
        case SaveWeightsRequest():
            return await save_weights(api, addressed, key=key, attempt=attempt)
        case SaveWeightsForSamplerRequest():
            return await save_weights_for_sampler(api, addressed, key=key, attempt=attempt)
        case SaveWeightsExternalRequest():
            return await save_weights_external(api, addressed, key=key, attempt=attempt)
        case LoadWeightsRequest():
            return await load_weights(api, addressed, key=key, attempt=attempt)


def combine(operation: Operation, results: Sequence[Any]) -> Any:
    """The operation's result from those of its chunks."""
    if not isinstance(results[0], ForwardBackwardOutput):
        return results[0]
    combined = combine_outputs(results)
    return combined if operation.local is None else with_local_loss(combined, operation.local)


def problem_of(chunk: Chunk, result: Any) -> str | None:
    """In words what is missing from the result of ``chunk``; None when it is whole."""
    if isinstance(result, SaveWeightsExternalResponse) and result.path is None:
        return "the server gives no path"
    if not isinstance(chunk.request, ForwardBackwardRequest) or not isinstance(result, ForwardBackwardOutput):
        return None
    due, given = chunk.datums, len(result.loss_fn_outputs)
    return None if due == given else f"the server gives {given} loss_fn_outputs for {due} datums"


def _chunk(request: TrainingRequest, size: int) -> Chunk:
    data = encode_data(request.data) if isinstance(request, ForwardBackwardRequest) else None
    return Chunk(request, operation_digest(request, data), size, data)


def _for_cross_entropy(datum: Datum) -> Datum:
    inputs = datum.loss_fn_inputs
    kept = {name: inputs[name] for name in ("target_tokens", "weights") if name in inputs}
    if "target_tokens" in kept and "weights" not in kept:
        kept["weights"] = np.zeros(tuple(datum.tensor("target_tokens").shape or ()), np.float32)
    return msgspec.structs.replace(datum, loss_fn_inputs=kept)


def _with_weights(datum: Datum, weights: Any) -> Datum:
    inputs = {"target_tokens": datum.loss_fn_inputs["target_tokens"], "weights": np.asarray(weights, np.float32)}
    return msgspec.structs.replace(datum, loss_fn_inputs=inputs)


def _check_vocabulary(index: int, datum: Datum, vocabulary: int | None) -> None:
    if vocabulary is None:
        return
    arrays = [("model_input", chunk.array) for chunk in datum.model_input.text_chunks]
    for field, array in (*arrays, ("loss_fn_inputs['target_tokens']", datum.tensor("target_tokens").values)):
        if array.size and (int(array.max()) >= vocabulary or int(array.min()) < 0):
            raise InvalidInput(
                f"data[{index}].{field}",
                f"holds a token id outside the model's vocabulary of {vocabulary}",
                "Encode the text with the client's own get_tokenizer()",
            )


def _loss_config(config: Mapping[str, float | str] | None) -> dict[str, float | str]:
    checked: dict[str, float | str] = {}
    if config is None:
        return checked
    if not isinstance(config, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
        raise InvalidInput("loss_fn_config", "is not a mapping", "Give a dict of names and numbers")
    for key, value in config.items():
        name = text("loss_fn_config's keys", key, "Give the names that the loss function knows")
        field = f"loss_fn_config[{name!r}]"
        if isinstance(value, str):
            checked[name] = text(field, value, "Give text or a finite number", empty=True)
            continue
        checked[name] = setting = number(field, value, "Give text or a finite number")
        if math.isnan(setting):
            raise InvalidInput(field, "is not a number", "Give a finite number")
    return checked


def _ttl(seconds: int | None) -> int | None:
    if seconds is None:
        return None
    return integer("ttl_seconds", seconds, "Give whole seconds, or None to keep it", low=1, high=_LONGEST_TTL)
