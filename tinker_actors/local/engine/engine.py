"""The engine: models by id, and what operations do to them. Free of network, clock and trio.

It is the oracle of the promise that faults leave no trace: the same operations give the same bits, in one request
or several, on one machine. Calls for different models may run in several threads at a time, those for one model
may not.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import final, overload

import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.adapter import MAX_RANK, Adapter, Layout, start_values
from tinker_actors.local.engine.base import BaseModel, load_base
from tinker_actors.local.engine.losses import Loss, check_inputs, objective
from tinker_actors.local.engine.operations import (
    CreateModel,
    ForwardBackward,
    LoadState,
    Operation,
    OptimStep,
    SaveSampler,
    SaveState,
    UnloadModel,
)
from tinker_actors.local.engine.pieces import TextPieces
from tinker_actors.local.engine.sampling import check_sample, sample_all, sample_steps, seed_of
from tinker_actors.local.engine.snapshots import OptimizerState, Snapshot
from tinker_actors.local.engine.states import ModelState
from tinker_actors.local.engine.threads import fixed_blas_threads
from tinker_actors.local.engine.training import adamw, forward_backward
from tinker_actors.local.engine.transformer import Weights, merge
from tinker_actors.types.requests import SampleRequest
from tinker_actors.types.sampling import SampleResponse
from tinker_actors.types.streaming import SampleStreamChunk
from tinker_actors.types.tensor import FloatArray
from tinker_actors.types.training import ForwardBackwardOutput, LoraConfig, OptimStepResponse

__all__ = ["Engine", "cost"]

_SAMPLERS_KEPT = 4


@dataclass(slots=True)
class _Model:
    base: BaseModel
    lora: LoraConfig
    layout: Layout
    flat: FloatArray
    first: FloatArray
    second: FloatArray
    step: int
    gradient: FloatArray | None
    merged: Weights | None = None
    away: bool = False


@final
class Engine:
    """Models by id. ``apply`` runs an operation; ``check`` says beforehand whether it can be run."""

    def __init__(self, bases: Iterable[BaseModel] = ()) -> None:
        """``bases`` are base models besides those of the package."""
        self._bases = {base.name: base for base in bases}
        self._models: dict[str, _Model] = {}
        self._losses: dict[str, Loss] = {}
        self._samplers: OrderedDict[int, tuple[Snapshot, Weights]] = OrderedDict()
        self._lock = threading.Lock()

    def base(self, name: str) -> BaseModel:
        """The base model ``name``, loaded once. Raises InvalidInput for an unknown one."""
        with self._lock:
            if name not in self._bases:
                self._bases[name] = load_base(name)
            return self._bases[name]

    def add_loss(self, loss_id: str, loss: Loss) -> None:
        """Offer ``loss`` under "custom" with this id."""
        self._losses[loss_id] = loss

    def forget_losses(self, loss_ids: Iterable[str]) -> None:
        """Offer them no more."""
        for loss_id in loss_ids:
            self._losses.pop(loss_id, None)

    def models(self) -> tuple[str, ...]:
        """The ids of the models that there are."""
        return tuple(self._models)

    def has(self, model_id: str) -> bool:
        """Whether there is such a model."""
        return model_id in self._models

    def state(self, model_id: str) -> ModelState:
        """All that operations change of a model. The arrays are its own: they change with it."""
        model = self._here(model_id)
        return ModelState(model.flat, model.first, model.second, model.step, model.gradient)

    def take_out(self, model_id: str) -> None:
        """Forget the state of a model. It can be checked against, but nothing be done with it until ``put_back``."""
        model = self._here(model_id)
        model.flat = model.first = model.second = np.empty(0, np.float32)
        model.gradient = model.merged = None
        model.away = True

    def put_back(self, model_id: str, state: ModelState) -> None:
        """Give a model that was taken out its state again."""
        model = self._models[model_id]
        model.flat, model.first, model.second = state.flat, state.first, state.second
        model.step, model.gradient = state.step, state.gradient
        model.away = False

    @overload
    def apply(self, operation: ForwardBackward) -> ForwardBackwardOutput: ...
    @overload
    def apply(self, operation: OptimStep) -> OptimStepResponse: ...
    @overload
    def apply(self, operation: SaveState | SaveSampler) -> Snapshot: ...
    @overload
    def apply(self, operation: CreateModel | LoadState | UnloadModel) -> None: ...
    @overload
    def apply(self, operation: Operation) -> ForwardBackwardOutput | OptimStepResponse | Snapshot | None: ...

    def apply(self, operation: Operation) -> ForwardBackwardOutput | OptimStepResponse | Snapshot | None:
        """Run ``operation`` to its end, or raise InvalidInput and change nothing."""
        self.check(operation)
        if isinstance(operation, CreateModel):
            self._create(operation)
            return None
        if isinstance(operation, UnloadModel):
            del self._models[operation.model_id]
            return None
        model = self._here(operation.model_id)
        match operation:
            case ForwardBackward():
                return self._forward_backward(model, operation)
            case OptimStep():
                return self._optim_step(model, operation)
            case SaveState():
                split = model.layout.split
                optimizer = OptimizerState(split(model.first), split(model.second), model.step)
                return Snapshot(model.base.name, model.lora, split(model.flat), optimizer)
            case SaveSampler():
                return Snapshot(model.base.name, model.lora, model.layout.split(model.flat))
            case LoadState():
                self._load(model, operation)
                return None

    def check(self, operation: Operation) -> None:
        """Raise InvalidInput, naming the field, for whatever ``operation`` could not do. Changes nothing."""
        if isinstance(operation, CreateModel):
            self.base(operation.base_model)
            if operation.model_id in self._models:
                raise InvalidInput("model_id", f"{operation.model_id!r} exists already", "Use a new id")
            if operation.lora.rank > MAX_RANK:
                raise InvalidInput("rank", f"{operation.lora.rank} is above the limit", f"Use at most {MAX_RANK}")
            return
        model = self._models.get(operation.model_id)
        if model is None:
            raise InvalidInput("model_id", f"there is no model {operation.model_id!r}", "Create it first")
        if isinstance(operation, ForwardBackward):
            _check_data(model.base, operation, self._losses)
        elif isinstance(operation, LoadState):
            _check_snapshot(model, operation.snapshot, optimizer=operation.optimizer)

    def check_sample(self, base_model: str, snapshot: Snapshot | None, request: SampleRequest) -> None:
        """Raise InvalidInput for anything that ``sample`` could not do."""
        base = self.base(base_model)
        if snapshot is not None and snapshot.base_model != base_model:
            raise InvalidInput(
                "base_model",
                f"the adapter was trained on {snapshot.base_model!r}, not {base_model!r}",
                "Use that one",
            )
        check_sample(base.config, request)

    def sample(
        self, base_model: str, snapshot: Snapshot | None, request: SampleRequest, *, seed: int | None = None
    ) -> SampleResponse:
        """Sample from ``snapshot``'s adapter, or from the base model itself where that is None.

        ``seed`` stands in where the request names none. Without either, it is drawn from the request's sampling
        session and seq_id; InvalidInput when these are missing, too.
        """
        return self.sample_many(base_model, snapshot, (request,), seeds=(seed,))[0]

    def sample_many(
        self,
        base_model: str,
        snapshot: Snapshot | None,
        requests: Sequence[SampleRequest],
        *,
        seeds: Sequence[int | None] | None = None,
    ) -> list[SampleResponse]:
        """As ``sample`` one by one, to the bit, but in less time."""
        for request in requests:
            self.check_sample(base_model, snapshot, request)
        given = seeds if seeds is not None else [None] * len(requests)
        chosen = [seed_of(request, seed) for request, seed in zip(requests, given, strict=True)]
        base = self.base(base_model)
        with fixed_blas_threads():
            weights = base.weights if snapshot is None else self._sampler(base, snapshot)
            return sample_all(base.config, weights, requests, chosen, text_of=base.text_of)

    def stream(
        self, base_model: str, snapshot: Snapshot | None, request: SampleRequest
    ) -> Generator[SampleStreamChunk]:
        """The tokens of the first sample of ``request`` as they are drawn, those of ``sample`` to the bit.

        Each step blocks for one token, and may be in another thread than the one before.
        """
        self.check_sample(base_model, snapshot, request)
        base = self.base(base_model)
        weights = base.weights if snapshot is None else self._sampler(base, snapshot)
        steps = sample_steps(base.config, weights, request, seed_of(request, None), text_of=base.text_of)
        pieces = TextPieces(base.text_of)
        index = 0
        while True:
            with fixed_blas_threads():
                step = next(steps, None)
            if step is None:
                return
            token, logprob, reason = step
            yield SampleStreamChunk(
                token=pieces.add(token, last=reason is not None),
                token_id=token,
                index=index,
                logprob=logprob,
                finish_reason=reason,
                total_tokens=None if reason is None else index + 1,
            )
            index += 1

    def digest(self, model_id: str) -> str:
        """SHA-256 in hex over the adapter, the moments and the step count: equal bits, equal digest."""
        if model_id not in self._models:
            raise InvalidInput("model_id", f"there is no model {model_id!r}", "Create it first")
        model = self._here(model_id)
        names = [segment.name for segment in model.layout.segments]
        header = [model.base.name, model.lora.rank, model.step, names]
        digest = sha256(json.dumps(header).encode())
        for array in (model.flat, model.first, model.second):
            digest.update(array.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def _here(self, model_id: str) -> _Model:
        model = self._models[model_id]
        assert not model.away, f"{model_id} was taken out"
        return model

    def _create(self, operation: CreateModel) -> None:
        base, lora = self.base(operation.base_model), operation.lora
        layout = Layout(base.config, lora)
        flat = start_values(layout, lora.seed if lora.seed is not None else operation.model_id)
        first, second = np.zeros_like(flat), np.zeros_like(flat)
        self._models[operation.model_id] = _Model(base, lora, layout, flat, first, second, 0, None)

    def _forward_backward(self, model: _Model, operation: ForwardBackward) -> ForwardBackwardOutput:
        with fixed_blas_threads():
            adapter = Adapter(model.layout, model.flat)
            if model.merged is None:
                model.merged = merge(model.base.weights, adapter)
            gradient = None
            if not operation.forward_only:
                # a copy, so that an operation that fails leaves the pending gradient as it was
                gradient = np.zeros_like(model.flat) if model.gradient is None else model.gradient.copy()
            chosen = objective(operation.loss_fn, operation.loss_fn_config, self._losses)
            output = forward_backward(model.merged, adapter, operation.data, chosen, gradient)
            if gradient is not None:
                model.gradient = gradient
            return output

    def _optim_step(self, model: _Model, operation: OptimStep) -> OptimStepResponse:
        gradient = model.gradient if model.gradient is not None else np.zeros_like(model.flat)
        norm = adamw(model.flat, (model.first, model.second), model.step + 1, gradient, operation.adam_params)
        model.step += 1
        model.gradient = model.merged = None
        return OptimStepResponse(metrics={"grad_norm:mean": norm, "step:max": float(model.step)})

    def _load(self, model: _Model, operation: LoadState) -> None:
        snapshot = operation.snapshot
        _join(model.layout, model.flat, snapshot.weights)
        if operation.optimizer and snapshot.optimizer is not None:
            _join(model.layout, model.first, snapshot.optimizer.first)
            _join(model.layout, model.second, snapshot.optimizer.second)
            model.step = snapshot.optimizer.step
        else:
            model.first.fill(0.0)
            model.second.fill(0.0)
            model.step = 0
        model.gradient = model.merged = None

    def _sampler(self, base: BaseModel, snapshot: Snapshot) -> Weights:
        """The merged weights of ``snapshot``; those used last are kept."""
        with self._lock:
            kept = self._samplers.get(id(snapshot))
            if kept is not None:
                self._samplers.move_to_end(id(snapshot))
                return kept[1]
        layout = Layout(base.config, snapshot.lora)
        _check_arrays(layout, snapshot.weights, "snapshot")
        flat = np.empty(layout.size, np.float32)
        _join(layout, flat, snapshot.weights)
        weights = merge(base.weights, Adapter(layout, flat))
        with self._lock:
            self._samplers[id(snapshot)] = (snapshot, weights)  # held, so that the id stays its own
            while len(self._samplers) > _SAMPLERS_KEPT:
                self._samplers.popitem(last=False)
        return weights


def _join(layout: Layout, flat: FloatArray, arrays: Mapping[str, FloatArray]) -> None:
    for segment in layout.segments:
        layout.view(flat, segment.name)[...] = arrays[segment.name]


def _check_arrays(layout: Layout, arrays: Mapping[str, FloatArray], field: str) -> None:
    names = {segment.name for segment in layout.segments}
    if odd_names := set(arrays) ^ names:
        odd = min(odd_names)
        raise InvalidInput(field, f"{odd} is missing or not of this adapter", "Use a checkpoint of this model")
    for segment in layout.segments:
        shape, wanted = arrays[segment.name].shape, (segment.rows, segment.columns)
        if shape != wanted:
            raise InvalidInput(
                field, f"{segment.name} has shape {shape}, not {wanted}", "Use a checkpoint of this model"
            )


def _check_snapshot(model: _Model, snapshot: Snapshot, *, optimizer: bool) -> None:
    if snapshot.base_model != model.base.name:
        raise InvalidInput(
            "snapshot",
            f"was trained on {snapshot.base_model!r}, not {model.base.name!r}",
            "Use a checkpoint of this model",
        )
    if snapshot.lora.rank != model.lora.rank:
        raise InvalidInput(
            "snapshot",
            f"has rank {snapshot.lora.rank}, the model {model.lora.rank}",
            "Create the model with that rank",
        )
    _check_arrays(model.layout, snapshot.weights, "snapshot")
    if optimizer:
        if snapshot.optimizer is None:
            raise InvalidInput(
                "optimizer", "the checkpoint holds none", "Load one of save_state, or without optimizer"
            )
        _check_arrays(model.layout, snapshot.optimizer.first, "snapshot")
        _check_arrays(model.layout, snapshot.optimizer.second, "snapshot")


def _check_data(base: BaseModel, operation: ForwardBackward, losses: Mapping[str, Loss]) -> None:
    config = base.config
    chosen = objective(operation.loss_fn, operation.loss_fn_config, losses)
    if not operation.data:
        raise InvalidInput("data", "is empty", "Give at least one datum")
    for index, datum in enumerate(operation.data):
        where = f"data[{index}]"
        if len(datum.model_input.text_chunks) != len(datum.model_input.chunks):
            raise InvalidInput(f"{where}.model_input", "holds more than text", "This model reads only tokens")
        tokens = datum.model_input.to_array()
        if tokens.size > config.max_context:
            raise InvalidInput(
                f"{where}.model_input", f"has {tokens.size} tokens", f"Give at most {config.max_context}, the context"
            )
        if int(tokens.max()) >= config.vocab_size:
            bad = int(tokens[tokens >= config.vocab_size][0])
            raise InvalidInput(
                f"{where}.model_input",
                f"token {bad} is outside the vocabulary of {config.vocab_size}",
                "Check the tokenizer",
            )
        check_inputs(chosen, datum, config.vocab_size, where)


def cost(operation: Operation | SampleRequest) -> float:
    """Modelled seconds of an operation, for simulations: about what base-s takes on one core."""
    match operation:
        case ForwardBackward():
            tokens = sum(datum.model_input.length for datum in operation.data)
            return 0.002 + tokens * (15e-6 if operation.forward_only else 50e-6)
        case SampleRequest():
            generated = operation.sampling_params.max_tokens or 64
            return 0.002 + operation.prompt.length * 20e-6 + operation.num_samples * generated * 100e-6
        case CreateModel() | LoadState() | SaveState() | SaveSampler():
            return 0.002
        case _:
            return 0.001
