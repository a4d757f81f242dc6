"""What accepted operations do: the engine's work, checkpoints and the log. Everything here blocks.

Each method is one piece of offloaded work: it changes everything that belongs to its operation, so that engine,
catalogue and log agree even when nobody waits for it any more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from typing import final

import msgspec

from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.local.applied import AppliedLog, AppliedOperation
from tinker_actors.local.catalog import Catalog, NameInUse
from tinker_actors.local.engine import (
    CreateModel,
    Engine,
    ForwardBackward,
    LoadState,
    OptimStep,
    SaveSampler,
    SaveState,
    Snapshot,
    UnloadModel,
    cost,
    snapshot_from_safetensors,
    snapshot_to_safetensors,
)
from tinker_actors.local.engine import Operation as EngineOperation
from tinker_actors.local.engine.peft import peft_weights
from tinker_actors.local.futures import Result
from tinker_actors.local.model import Model, ModelRequest, Operation
from tinker_actors.local.owners import Owner, Owners
from tinker_actors.local.residency import LostState, ResidentModels, ResidentSnapshots
from tinker_actors.local.sampler import Sample, Sampler, SamplerTable
from tinker_actors.local.storage import CheckpointRecord, DamagedCheckpoint
from tinker_actors.types import (
    AdamParams,
    CheckpointKind,
    CreateModelRequest,
    CreateModelResponse,
    FailedResult,
    ForwardBackwardRequest,
    LoadWeightsRequest,
    LoadWeightsResponse,
    ModelIdRequest,
    OptimStepRequest,
    OptimStepResponse,
    RequestErrorCategory,
    SampleRequest,
    SampleStreamChunk,
    SaveWeightsExternalRequest,
    SaveWeightsExternalResponse,
    SaveWeightsForSamplerRequest,
    SaveWeightsForSamplerResponse,
    SaveWeightsRequest,
    SaveWeightsResponse,
)

__all__ = ["Effects", "UnloadModelResponse"]


class UnloadModelResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The result of unload_model."""

    model_id: str


class _Failed(Exception):
    """The operation can't be done; nothing was changed."""

    def __init__(self, text: str, category: RequestErrorCategory = RequestErrorCategory.USER) -> None:
        super().__init__(text, category)
        self.text = text
        self.category = category


_FILE_COST = 0.01  # modelled seconds of what is mostly writing or reading a file


@final
class Effects:
    """The engine with its catalogue and log."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        log: AppliedLog,
        *,
        samplers: SamplerTable,
        owners: Owners,
        models: ResidentModels,
        snapshots: ResidentSnapshots,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._log = log
        self._samplers = samplers
        self._owners = owners
        self._models = models
        self._snapshots = snapshots

    def apply(self, model: Model, operation: Operation) -> Result:
        """Do it and log it; the value is its result, a FailedResult when it can't be done.

        An exception other than that is a bug: then the model's state is unknown unless the operation only reads it.
        """
        if model.corrupted is not None:
            if isinstance(operation.request, ModelIdRequest):
                self._models.discard(model.model_id)
                model.in_engine = False
                return UnloadModelResponse(model_id=model.model_id)
            return FailedResult(error=f"{operation}: {model.corrupted}", category=RequestErrorCategory.SERVER)
        try:
            with self._models.hold(model.model_id):
                result = self._apply(model, operation)
        except LostState as lost:
            model.corrupted = f"the weights of {model.model_id} were in a file, which can't be read: {lost}"
            return FailedResult(error=f"{operation}: {model.corrupted}", category=RequestErrorCategory.SERVER)
        except InvalidInput as error:
            return FailedResult(error=f"{operation}: {error}", category=RequestErrorCategory.USER)
        except _Failed as failed:
            return FailedResult(error=f"{operation}: {failed.text}", category=failed.category)
        except OSError as error:
            return FailedResult(
                error=f"{operation}: the server's disk fails it: {error}", category=RequestErrorCategory.SERVER
            )
        if operation.seq_id:
            self._log.append(
                AppliedOperation(
                    model_id=model.model_id,
                    seq_id=operation.seq_id,
                    kind=operation.kind,
                    digest=operation.digest,
                    request_id=operation.future.request_id,
                )
            )
        return result

    def sample(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """Sample for requests of one sampler; the values are their results, FailedResults when it can't be done."""
        sampler = samples[0].sampler
        try:
            requests = [sample.request for sample in samples]
            return self._engine.sample_many(sampler.base_model, self._snapshot_of(sampler), requests)
        except (LostState, InvalidInput, _Failed) as failure:
            return [_sample_failure(sampler, failure)] * len(samples)

    def stream(self, sampler: Sampler, request: SampleRequest) -> Generator[SampleStreamChunk | FailedResult]:
        """The tokens of a sample as they are drawn, each step blocking for one; or a FailedResult."""
        try:
            yield from self._engine.stream(sampler.base_model, self._snapshot_of(sampler), request)
        except (LostState, InvalidInput, _Failed) as failure:
            yield _sample_failure(sampler, failure)

    def _snapshot_of(self, sampler: Sampler) -> Snapshot | None:
        snapshot = self._snapshots.get(sampler)
        if snapshot is None and sampler.ephemeral:
            raise LostState("it is gone")
        if snapshot is None and sampler.model_path is not None:
            snapshot = self._read(sampler.owner, sampler.model_path)
            self._snapshots.keep(sampler, snapshot)
        return snapshot

    def forget_over(self, busy: Collection[Sampler]) -> None:
        """Drop the weights of samplers that are over, but for those that are ``busy``: they have samples to do."""
        over = [sampler for sampler in self._snapshots.samplers() if sampler.over and sampler not in busy]
        self._snapshots.forget(over)

    def digest(self, model: Model) -> str | None:
        """The digest of the model's weights now, or of its last ones; None when it never had any."""
        if not model.in_engine:
            return model.final_digest
        with self._models.hold(model.model_id):
            return self._engine.digest(model.model_id)

    def cost(self, model: Model, operation: Operation) -> float:
        """Modelled seconds of ``apply``."""
        engine_operation = self._engine_operation(model, operation.request)
        return cost(engine_operation) if engine_operation is not None else _FILE_COST

    def sample_cost(self, sample: Sample) -> float:
        """Modelled seconds of ``sample``."""
        return cost(sample.request)

    def check(self, model: Model, request: ModelRequest) -> None:
        """Raise InvalidInput for what the model could not do, whatever comes before it."""
        engine_operation = self._engine_operation(model, request)
        if engine_operation is not None:
            self._engine.check(engine_operation)

    def _engine_operation(self, model: Model, request: ModelRequest) -> EngineOperation | None:
        match request:
            case ForwardBackwardRequest():
                return forward_backward_operation(request)
            case OptimStepRequest():
                return optim_step_operation(request)
            case CreateModelRequest():
                return CreateModel(model_id=model.model_id, base_model=model.run.base_model, lora=model.run.lora)
            case _:
                return None

    def _apply(self, model: Model, operation: Operation) -> Result:
        engine, model_id = self._engine, model.model_id
        match operation.request:
            case CreateModelRequest():
                self._create(model, None)
                return CreateModelResponse(model_id=model_id)
            case LoadWeightsRequest() as request:
                access = self._owners.of_token(request.weights_access_token)
                snapshot = self._read(model.run.owner, request.path, access)
                load = LoadState(model_id=model_id, snapshot=snapshot, optimizer=request.optimizer)
                if operation.seq_id == 0:
                    self._create(model, load)
                else:
                    engine.apply(load)
                return LoadWeightsResponse(path=request.path, model_id=model_id)
            case ForwardBackwardRequest() as request:
                return engine.apply(forward_backward_operation(request))
            case OptimStepRequest() as request:
                answer = engine.apply(optim_step_operation(request))
                return _without_nan(answer)
            case SaveWeightsRequest() as request:
                name = request.path if request.path is not None else f"seq-{operation.seq_id}"
                snapshot = engine.apply(SaveState(model_id=model_id))
                return SaveWeightsResponse(
                    path=self._save(model, "weights", name, snapshot_to_safetensors(snapshot), request).path
                )
            case SaveWeightsForSamplerRequest() as request:
                return self._save_for_sampler(model, request)
            case SaveWeightsExternalRequest() as request:
                weights = peft_weights(engine.apply(SaveSampler(model_id=model_id)))
                record = self._save(model, "external_weights", request.path, weights, request)
                return SaveWeightsExternalResponse(path=record.path, size_bytes=record.size_bytes)
            case ModelIdRequest():
                model.final_digest = engine.digest(model_id)
                engine.apply(UnloadModel(model_id=model_id))
                model.in_engine = False
                return UnloadModelResponse(model_id=model_id)

    def _save_for_sampler(self, model: Model, request: SaveWeightsForSamplerRequest) -> Result:
        if request.sampling_session_seq_id is None:
            assert request.path is not None
            snapshot = self._engine.apply(SaveSampler(model_id=model.model_id))
            data = snapshot_to_safetensors(snapshot)
            record = self._save(model, "sampler_weights", request.path, data, request)
            return SaveWeightsForSamplerResponse(path=record.path)
        sampler = Sampler(
            f"{model.run.session_id}:sample:{request.sampling_session_seq_id}",
            model.run.session_id,
            model.run.base_model,
            owner=model.run.owner,
            ephemeral=True,
        )
        snapshot = self._engine.apply(SaveSampler(model_id=model.model_id))
        self._snapshots.keep(sampler, snapshot)
        if not self._samplers.add(sampler):
            self._snapshots.forget((sampler,))
            raise _Failed(f"sampling_session_seq_id {request.sampling_session_seq_id} is in use in this session")
        if request.kind == "inflight":
            earlier = [each for each in model.inflight if not each.over]
            self._snapshots.forget(earlier)
            for each in earlier:
                self._snapshots.keep(each, snapshot)
            model.inflight = [*earlier, sampler]
        return SaveWeightsForSamplerResponse(sampling_session_id=sampler.sampling_session_id)

    def _save(
        self,
        model: Model,
        kind: CheckpointKind,
        name: str,
        data: bytes,
        request: SaveWeightsRequest | SaveWeightsForSamplerRequest | SaveWeightsExternalRequest,
    ) -> CheckpointRecord:
        try:
            return self._catalog.save(
                model.run,
                kind,
                name,
                data,
                overwrite=isinstance(request, SaveWeightsRequest) and request.overwrite,
                ttl_seconds=request.ttl_seconds,
                user_metadata={} if isinstance(request, SaveWeightsExternalRequest) else request.user_metadata or {},
            )
        except NameInUse as error:
            raise _Failed(f"path: {error} exists. Use another name, or delete it first") from error

    def _create(self, model: Model, load: LoadState | None) -> None:
        model_id = model.model_id
        self._engine.apply(CreateModel(model_id=model_id, base_model=model.run.base_model, lora=model.run.lora))
        try:
            if load is not None:
                self._engine.apply(load)
            self._catalog.add_run(model.run)
        except (InvalidInput, OSError):
            self._engine.apply(UnloadModel(model_id=model_id))
            raise
        model.in_engine = True

    def _read(self, owner: Owner, path: str, access: Owner | None = None) -> Snapshot:
        record = self._catalog.readable(owner, path, access)
        if record is None:
            raise _Failed(f"path: there is no checkpoint {path}. Check the name; it may have expired or been deleted")
        try:
            return snapshot_from_safetensors(self._catalog.read(record))
        except (DamagedCheckpoint, DecodeError) as error:
            raise _Failed(str(error), RequestErrorCategory.SERVER) from error


def forward_backward_operation(request: ForwardBackwardRequest) -> ForwardBackward:
    """The engine's operation for ``request``."""
    return ForwardBackward(
        model_id=request.model_id,
        data=request.data,
        loss_fn=request.loss_fn,
        loss_fn_config=request.loss_fn_config,
        forward_only=request.forward_only,
    )


def optim_step_operation(request: OptimStepRequest) -> OptimStep:
    """The engine's operation for ``request``."""
    return OptimStep(model_id=request.model_id, adam_params=request.adam_params or AdamParams())


def _without_nan(answer: OptimStepResponse) -> OptimStepResponse:
    # results of optim_step travel as JSON, which has no NaN
    metrics = answer.metrics or {}
    return OptimStepResponse(metrics={key: value for key, value in metrics.items() if math.isfinite(value)})


def _sample_failure(sampler: Sampler, failure: LostState | InvalidInput | _Failed) -> FailedResult:
    if isinstance(failure, LostState):
        where = f"sample: the weights of {sampler.sampling_session_id} were in a file, which can't be read: {failure}"
        return FailedResult(error=where, category=RequestErrorCategory.SERVER)
    if isinstance(failure, _Failed):
        return FailedResult(error=f"sample: {failure.text}", category=failure.category)
    return FailedResult(error=f"sample: {failure}", category=RequestErrorCategory.USER)
