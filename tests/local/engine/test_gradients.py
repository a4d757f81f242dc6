"""The gradients are true: against finite differences in float64, and against torch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.local.engine.scenes import SMALL, double, lively_adapter, make_datum, small_base
from tinker_actors.local.engine.adapter import Adapter
from tinker_actors.local.engine.training import forward_backward
from tinker_actors.local.engine.transformer import Weights, merge
from tinker_actors.types import Datum, LoraConfig

PARTS = [
    LoraConfig(rank=3, train_unembed=True, train_mlp=True, train_attn=True),
    LoraConfig(rank=3, train_unembed=False, train_mlp=True, train_attn=False),
    LoraConfig(rank=3, train_unembed=False, train_mlp=False, train_attn=True),
    LoraConfig(rank=3, train_unembed=True, train_mlp=False, train_attn=False),
]
LOSSES = ["cross_entropy", "importance_sampling"]


def loss_of(base: Weights, adapter: Adapter, data: tuple[Datum, ...], loss_fn: str) -> float:
    output = forward_backward(merge(base, adapter), adapter, data, loss_fn, None)
    return output.metrics["loss:sum"]


@pytest.mark.parametrize("loss_fn", LOSSES)
@pytest.mark.parametrize("lora", PARTS, ids=["all", "mlp", "attn", "unembed"])
def test_gradient_is_the_slope_of_the_loss(lora: LoraConfig, loss_fn: str) -> None:
    base = double(small_base().weights)
    adapter = lively_adapter(SMALL, lora, np.float64)
    data = (make_datum(5, 1, loss_fn=loss_fn), make_datum(11, 2, loss_fn=loss_fn), make_datum(7, 3, loss_fn=loss_fn))
    gradient = np.zeros_like(adapter.flat)
    forward_backward(merge(base, adapter), adapter, data, loss_fn, gradient)
    rng = np.random.default_rng(0)
    for segment in adapter.layout.segments:
        stop = segment.offset + segment.rows * segment.columns
        for at in rng.choice(np.arange(segment.offset, stop), 4, replace=False):
            step = 1e-5
            kept = adapter.flat[at]
            adapter.flat[at] = kept + step
            above = loss_of(base, adapter, data, loss_fn)
            adapter.flat[at] = kept - step
            below = loss_of(base, adapter, data, loss_fn)
            adapter.flat[at] = kept
            slope = (above - below) / (2 * step)
            assert gradient[at] == pytest.approx(slope, rel=1e-5, abs=1e-7), segment.name
        # random directions see what single entries may miss
        direction = np.zeros_like(adapter.flat)
        direction[segment.offset : stop] = rng.normal(size=stop - segment.offset)
        kept_all = adapter.flat.copy()
        adapter.flat[:] = kept_all + 1e-5 * direction
        above = loss_of(base, adapter, data, loss_fn)
        adapter.flat[:] = kept_all - 1e-5 * direction
        below = loss_of(base, adapter, data, loss_fn)
        adapter.flat[:] = kept_all
        assert gradient @ direction == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-7), segment.name


def test_float32_gradient_is_close_to_float64() -> None:
    lora = PARTS[0]
    data = tuple(make_datum(3 + seed, seed) for seed in range(12))
    found = []
    for dtype in (np.float32, np.float64):
        base = small_base().weights if dtype is np.float32 else double(small_base().weights)
        adapter = lively_adapter(SMALL, lora, dtype)
        gradient = np.zeros_like(adapter.flat)
        forward_backward(merge(base, adapter), adapter, data, "cross_entropy", gradient)
        assert gradient.dtype == dtype
        found.append(gradient)
    assert np.abs(found[0] - found[1]).max() < 1e-5 * np.abs(found[1]).max()


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_gradient_is_torchs(loss_fn: str) -> None:
    torch = pytest.importorskip("torch")
    folder = str(Path(__file__).parents[3] / "recipes" / "base_model")
    sys.path.insert(0, folder)
    try:
        from model import Config, Model
    finally:
        sys.path.remove(folder)
    base = small_base()
    adapter = lively_adapter(SMALL, PARTS[0], np.float32)
    c = SMALL
    model = Model(Config(c.vocab_size, c.d_model, c.n_layers, c.n_heads, c.d_ff, c.rope_theta, c.norm_eps))
    values = {"embed.weight": base.weights.embed, "norm.weight": base.weights.norm}
    for index, layer in enumerate(base.weights.layers):
        q, k, v = np.split(layer.qkv, 3)
        gate, up = np.split(layer.gate_up, 2)
        named = {"attn_norm": layer.attn_norm, "mlp_norm": layer.mlp_norm, "o_proj": layer.o, "down_proj": layer.down}
        named |= {"q_proj": q, "k_proj": k, "v_proj": v, "gate_proj": gate, "up_proj": up}
        values |= {f"layers.{index}.{name}.weight": array for name, array in named.items()}
    values = {name: torch.tensor(array) for name, array in values.items()}
    leaves = {
        segment.name: torch.tensor(adapter.layout.view(adapter.flat, segment.name), requires_grad=True)
        for segment in adapter.layout.segments
    }
    merged = dict(values)
    for name in values:
        module = name.removesuffix(".weight")
        if f"{module}.lora_A" in leaves:
            change = leaves[f"{module}.lora_B"] @ leaves[f"{module}.lora_A"]
            merged[name] = values[name] + adapter.scale * change
    head = values["embed.weight"] + adapter.scale * leaves["lm_head.lora_B"] @ leaves["lm_head.lora_A"]
    data = tuple(make_datum(3 + 2 * seed, seed, loss_fn=loss_fn) for seed in range(8))
    total = torch.zeros(())
    expected = []
    kept = {}
    model.norm.register_forward_hook(lambda _module, _inputs, output: kept.__setitem__("hidden", output))
    for datum in data:
        tokens = torch.tensor(datum.model_input.to_ints())[None]
        torch.func.functional_call(model, merged, (tokens,))
        logits = kept["hidden"] @ head.T  # the model's own head is tied and knows no adapter
        targets = torch.tensor(datum.tensor("target_tokens").to_numpy().copy())
        lp = torch.log_softmax(logits[0], -1)[torch.arange(len(targets)), targets]
        expected.append(lp.detach().numpy())
        if loss_fn == "cross_entropy":
            total = total - (torch.tensor(datum.tensor("weights").to_numpy().copy()) * lp).sum()
        else:
            old = torch.tensor(datum.tensor("logprobs").to_numpy().copy())
            total = total - ((lp - old).exp() * torch.tensor(datum.tensor("advantages").to_numpy().copy())).sum()
    total.backward()
    gradient = np.zeros_like(adapter.flat)
    output = forward_backward(merge(base.weights, adapter), adapter, data, loss_fn, gradient)
    assert output.metrics["loss:sum"] == pytest.approx(float(total.detach()), rel=1e-5)
    for record, lp in zip(output.loss_fn_outputs, expected, strict=True):
        np.testing.assert_allclose(record["logprobs"].to_numpy(), lp, atol=2e-6, rtol=2e-6)
    worst = 0.0
    for segment in adapter.layout.segments:
        ours = adapter.layout.view(gradient, segment.name)
        theirs = leaves[segment.name].grad.numpy()
        worst = max(worst, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    print(f"worst relative difference to torch, {loss_fn}: {worst:.1e}")
    assert worst < 2e-5
