"""A loss with regularizers: what each part adds, how large its gradient is, and what becomes of one that fails.

python examples/regularizers.py
"""

import autograd.numpy as np
import trio

from tinker_actors import Consistency, Entropy, RegularizerPipeline, RegularizerSpec


def policy_loss(_data, logprobs):
    rewards = [1.0, -0.5]
    return -sum(reward * np.sum(each) for reward, each in zip(rewards, logprobs, strict=True)), {"tokens": 6.0}


def broken(_data, _logprobs):
    raise ZeroDivisionError("no data with this label")


async def main() -> None:
    logprobs = [np.log(np.array([0.5, 0.25, 0.25])), np.log(np.array([0.8, 0.1, 0.1]))]
    before = [np.log(np.array([0.4, 0.3, 0.3])), np.log(np.array([0.8, 0.1, 0.1]))]
    pipeline = RegularizerPipeline(
        policy_loss,
        [
            RegularizerSpec(fn=Entropy(mode="maximize"), weight=0.1, name="entropy"),
            RegularizerSpec(fn=Consistency(metric="kl", reference_logprobs=before), weight=0.5, name="stay close"),
            RegularizerSpec(fn=broken, weight=1.0, name="broken"),
        ],
    )
    result = await pipeline.run((), logprobs, gradients=True)
    print(f"base loss {result.output.base_loss.value:.4f}, |gradient| {result.output.base_loss.grad_norm:.4f}")
    for name, part in result.output.regularizers.items():
        print(f"{name}: {part.weight} x {part.value:.4f}, |gradient| {part.grad_norm:.4f}")
    print(f"total {result.output.loss_total:.4f}, |gradient| {result.output.total_grad_norm:.4f}")
    for failure in result.failures:
        print(f"left out: {failure}")


if __name__ == "__main__":
    trio.run(main)
