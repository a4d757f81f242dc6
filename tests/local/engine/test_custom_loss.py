"""Uploaded losses: their gradients are those of finite differences; what is not listed can't be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.losses.custom import custom_loss
from tinker_actors.local.engine.losses.graph_operations import FUNCTIONS, METHODS
from tinker_actors.types import CreateCustomLossRequest, CustomLossInput

Node = dict[str, Any]


def ref(name: str) -> dict[str, Any]:
    return {"ref": name}


class Tracer:
    """Writes a graph as torch.fx does."""

    def __init__(self, *inputs: str) -> None:
        self.nodes: list[Node] = [
            {"op": "placeholder", "name": name, "target": name, "args": [], "kwargs": {}} for name in inputs
        ]

    def call(self, target: str, *args: Any, method: bool = False, **kwargs: Any) -> dict[str, Any]:
        name = f"n{len(self.nodes)}"
        op = "call_method" if method else "call_function"
        self.nodes.append({"op": op, "name": name, "target": target, "args": list(args), "kwargs": kwargs})
        return ref(name)

    def end(self, loss: Any, metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
        returned = {"tuple": [loss, {"dict": dict(metrics or {})}]}
        output = {"op": "output", "name": "output", "target": "output", "args": [returned], "kwargs": {}}
        return {"format": 1, "nodes": [*self.nodes, output]}


def request(graph: Mapping[str, Any], **ranks: int) -> CreateCustomLossRequest:
    inputs = tuple(CustomLossInput(name=name, rank=rank) for name, rank in ({"logprobs": 1} | ranks).items())  # type: ignore[arg-type]
    return CreateCustomLossRequest(session_id="s", custom_loss_seq_id=0, name="loss", inputs=inputs, graph=graph)


def clipped() -> dict[str, Any]:
    """ppo with a mean, a mask and a penalty of the neighbours' difference, and two metrics."""
    t = Tracer("logprobs", "old", "advantages")
    lp, old, advantages = ref("logprobs"), ref("old"), ref("advantages")
    ratio = t.call("torch.exp", t.call("operator.sub", lp, old))
    held = t.call("clamp", ratio, 0.8, 1.2, method=True)
    both = t.call(
        "torch.minimum", t.call("operator.mul", ratio, advantages), t.call("operator.mul", held, advantages)
    )
    mask = t.call("operator.ne", advantages, 0.0)
    kept = t.call("torch.where", mask, both, t.call("torch.zeros_like", both))
    rest = t.call("operator.getitem", lp, {"slice": [1, None, None]})
    before = t.call("operator.getitem", lp, {"slice": [None, -1, None]})
    jump = t.call("mean", t.call("torch.square", t.call("operator.sub", rest, before)), method=True)
    spread = t.call("torch.std", t.call("torch.tanh", lp), unbiased=False)
    loss = t.call("operator.neg", t.call("torch.sum", kept))
    loss = t.call("operator.add", loss, t.call("operator.mul", 0.5, jump))
    loss = t.call("operator.sub", loss, spread)
    share = t.call("mean", t.call("float", mask, method=True), method=True)
    return t.end(loss, {"custom/share:mean": share, "custom/jump:sum": t.call("detach", jump, method=True)})


def smooth() -> dict[str, Any]:
    """Many other operations at once, and a log_softmax over the positions."""
    t = Tracer("logprobs", "old", "advantages")
    lp, old = ref("logprobs"), ref("old")
    soft = t.call("torch.nn.functional.log_softmax", lp, dim=-1)
    most = t.call("torch.logsumexp", t.call("torch.stack", [lp, old]), 0)
    row = t.call("unsqueeze", lp, 0, method=True)
    outer = t.call("torch.matmul", t.call("transpose", row, 0, 1, method=True), row)
    weighted = t.call("operator.mul", soft, t.call("torch.sigmoid", ref("advantages")))
    power = t.call("operator.pow", t.call("torch.abs", lp), 1.5)
    running = t.call("torch.cumsum", lp, dim=0)
    size = t.call("operator.getitem", t.call("builtins.getattr", lp, "shape"), 0)
    terms = [weighted, most, power, running, t.call("torch._C._nn.softplus", lp), t.call("torch.log1p", power)]
    joined = t.call("torch.cat", [t.call("reshape", term, {"tuple": [-1]}, method=True) for term in terms])
    loss = t.call("operator.truediv", t.call("sum", joined, method=True), size)
    loss = t.call("operator.add", loss, t.call("torch.mean", outer))
    loss = t.call("operator.sub", loss, t.call("torch.amax", lp))
    return t.end(loss)


def constant() -> dict[str, Any]:
    t = Tracer("logprobs", "old", "advantages")
    return t.end(t.call("torch.sum", ref("old")))


@pytest.mark.parametrize("make", [clipped, smooth])
@pytest.mark.parametrize("shape", [(6,), (1,)])
def test_the_gradient_is_that_of_finite_differences(make: Any, shape: tuple[int, ...]) -> None:
    if make is clipped and shape == (1,):
        pytest.skip("there are no neighbours")
    loss = custom_loss(request(make(), old=1, advantages=1))
    rng = np.random.default_rng(3)
    lp = rng.uniform(-3.0, -0.1, shape)
    inputs = {"old": lp + rng.uniform(-0.5, 0.5, shape), "advantages": rng.normal(size=shape)}
    inputs["advantages"][0] = 0.0

    def value(at: Any) -> float:
        return float(loss.terms(at, inputs, {}).loss[0])  # float64 in, float64 out

    slope = loss.terms(lp, inputs, {}).slope  # type: ignore[arg-type]
    assert slope.shape == shape
    step = 1e-6
    for index in range(shape[0]):
        up, down = lp.copy(), lp.copy()
        up[index] += step
        down[index] -= step
        assert slope[index] == pytest.approx((value(up) - value(down)) / (2 * step), abs=1e-6)
    assert np.abs(slope).max() > 0.1


def test_metrics_and_what_has_no_gradient() -> None:
    lp = np.array([-1.0, -2.0, -4.0], np.float32)
    inputs = {"old": np.full(3, -1.0, np.float32), "advantages": np.array([0.0, 1.0, 2.0], np.float32)}
    terms = custom_loss(request(clipped(), old=1, advantages=1)).terms(lp, inputs, {})
    assert terms.metrics == pytest.approx({"custom/share:mean": 2 / 3, "custom/jump:sum": 2.5})
    assert terms.slope.dtype == np.float32
    terms = custom_loss(request(constant(), old=1, advantages=1)).terms(lp, inputs, {})
    assert float(terms.loss[0]) == -3.0
    assert terms.slope.tolist() == [0.0, 0.0, 0.0]
    t = Tracer("logprobs")
    stopped = t.call("operator.mul", t.call("detach", ref("logprobs"), method=True), ref("logprobs"))
    terms = custom_loss(request(t.end(t.call("torch.sum", stopped)))).terms(lp, {}, {})
    assert terms.slope.tolist() == lp.tolist()


def test_several_targets_and_scalars() -> None:
    t = Tracer("logprobs", "scale")
    rows = t.call("torch.sum", ref("logprobs"), dim=-1)
    graph = t.end(t.call("operator.mul", t.call("torch.sum", t.call("torch.exp", rows)), ref("scale")))
    loss = custom_loss(request(graph, logprobs=2, scale=0))
    lp = np.log(np.array([[0.5, 0.25], [0.5, 0.5]]))
    terms = loss.terms(lp, {"scale": np.array(3.0)}, {})  # type: ignore[arg-type]
    assert float(terms.loss[0]) == pytest.approx(3.0 * (0.125 + 0.25))
    assert terms.slope == pytest.approx(np.array([[0.375, 0.375], [0.75, 0.75]]))


def single(target: str, *args: Any, op: str = "call_function", **kwargs: Any) -> dict[str, Any]:
    t = Tracer("logprobs")
    node = {"op": op, "name": "bad", "target": target, "args": list(args), "kwargs": kwargs}
    t.nodes.append(node)
    return t.end(t.call("torch.sum", ref("bad")))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (single("os.system", "true"), "calls 'os.system', which is not offered"),
        (single("builtins.eval", "1"), "not offered"),
        (single("builtins.getattr", ref("logprobs"), "shape", "more"), "other arguments"),
        (single("torch.load", "file"), "not offered"),
        (single("__class__", ref("logprobs"), op="call_method"), "not offered"),
        (single("item", ref("logprobs"), op="call_method"), "not offered"),
        (single("backward", ref("logprobs"), op="call_method"), "not offered"),
        (single("weight", op="get_attr"), "is a get_attr, which is not offered"),
        (single("layer", ref("logprobs"), op="call_module"), "is a call_module"),
        (single("torch.exp", ref("later")), "uses 'later', which is no earlier node"),
        (single("torch.exp", ref("bad")), "no earlier node"),
        (single("torch.exp", ref("logprobs"), out=ref("logprobs")), "other arguments"),
        (single("torch.exp", {"code": "1"}), "of the form 'code'"),
        (single("torch.exp", {"ref": "logprobs", "more": 1}), "of no known form"),
        (single("operator.pow", 2, 2**60), "an integer beyond"),
        (single("torch.exp", [[[[[[[[[1]]]]]]]]]), "too deep"),
        ({"format": 2, "nodes": []}, "can't be read"),
        ({"format": 1, "nodes": []}, "takes , not logprobs"),
        ({"format": 1}, "can't be read"),
        ({"format": 1, "nodes": Tracer("logprobs").nodes}, "has no output"),
        ({"format": 1, "nodes": Tracer("logprobs").nodes * 2}, "has the name of another"),
        (Tracer("other").end(ref("other")), "takes other, not logprobs"),
        (Tracer("logprobs").end(1.0), "is not a loss and a dict of metrics"),
        (Tracer("logprobs").end(ref("logprobs"), {"loss:sum": ref("logprobs")}), "has a metric 'loss:sum'"),
        (Tracer("logprobs").end(ref("logprobs"), {"custom/a:max": ref("logprobs")}), "has a metric"),
        (Tracer("logprobs").end(ref("logprobs"), {"custom/a:sum": 1.0}), "has a metric"),
    ],
)
def test_graphs_that_are_refused(graph: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match="graph") as refused:
        custom_loss(request(graph))
    assert words in str(refused.value)


def test_inputs_that_are_refused() -> None:
    graph = Tracer("logprobs").end(ref("logprobs"))
    for inputs, words in (
        ([], "do not begin with logprobs"),
        ([("other", 1)], "do not begin with logprobs"),
        ([("logprobs", 0)], "do not begin with logprobs"),
        ([("logprobs", 1), ("__class__", 1)], None),
        ([("logprobs", 1), ("Other", 1)], "is no name of an input"),
        ([("logprobs", 1), ("logprobs", 1)], "have a name twice"),
        ([("logprobs", 1), *[(f"i{n}", 1) for n in range(16)]], "are 17"),
    ):
        declared = tuple(CustomLossInput(name=name, rank=rank) for name, rank in inputs)  # type: ignore[arg-type]
        given = CreateCustomLossRequest(
            session_id="s", custom_loss_seq_id=0, name="loss", inputs=declared, graph=graph
        )
        with pytest.raises(InvalidInput) as refused:
            custom_loss(given)
        assert words is None or words in str(refused.value)


@pytest.mark.parametrize(
    ("target", "args", "words"),
    [
        ("operator.getitem", [ref("logprobs"), 99], "operator.getitem can't be done at node 'bad'"),
        ("torch.reshape", [ref("logprobs"), {"tuple": [7, 7]}], "torch.reshape can't be done"),
        ("operator.add", [ref("logprobs"), "text"], "a str is no tensor"),
        ("operator.add", [ref("logprobs"), None], "a NoneType is no tensor"),
        ("builtins.getattr", [ref("logprobs"), "__class__"], "the attribute '__class__' is not offered"),
        ("torch.exp", [ref("logprobs")], "its loss has the shape [3]"),
    ],
)
def test_what_fails_when_it_is_run_names_its_node(target: str, args: Any, words: str) -> None:
    t = Tracer("logprobs")
    t.nodes.append({"op": "call_function", "name": "bad", "target": target, "args": args, "kwargs": {}})
    loss = custom_loss(request(t.end(ref("bad"))))
    with pytest.raises(InvalidInput) as failed:
        loss.terms(np.array([-1.0, -2.0, -3.0], np.float32), {}, {})
    assert words in str(failed.value)


def test_a_graph_can_not_take_all_the_memory() -> None:
    t = Tracer("logprobs")
    column = t.call("reshape", ref("logprobs"), {"tuple": [-1, 1]}, method=True)
    grown: Any = ref("logprobs")
    for _ in range(30):
        grown = t.call("flatten", t.call("operator.add", column, grown), method=True)
    loss = custom_loss(request(t.end(t.call("torch.sum", grown))))
    with pytest.raises(InvalidInput, match=r"too large|makes"):
        loss.terms(np.full(50, -1.0, np.float32), {}, {})
    t = Tracer("logprobs")
    doubled: Any = ref("logprobs")
    for _ in range(18):
        doubled = t.call("torch.cat", [doubled, doubled])
    with pytest.raises(InvalidInput, match=r"torch\.cat makes 6553600 numbers at node 'n17'"):
        custom_loss(request(t.end(t.call("torch.sum", doubled)))).terms(np.full(50, -1.0, np.float32), {}, {})
    t = Tracer("logprobs")
    wide = t.call("expand", ref("logprobs"), 2**40, 3, method=True)
    with pytest.raises(InvalidInput, match="too large"):
        custom_loss(request(t.end(t.call("torch.sum", wide)))).terms(np.full(3, -1.0, np.float32), {}, {})


def test_what_is_offered_is_what_the_guide_says() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "losses.md").read_text("utf-8").partition("as graphs")[2]
    for name in METHODS:
        if name not in ("absolute", "bool", "divide", "multiply", "negative", "subtract", "true_divide", "type_as"):
            assert f"`{name}`" in guide, name
    assert all(name.partition(".")[0] in ("torch", "operator", "math", "builtins") for name in FUNCTIONS)
