"""Pretrain the packaged base model "tinker-actors/base-s" (about ten minutes of one core).

    pip install -r recipes/base_model/requirements.txt && pip install -e .
    python recipes/base_model/train.py --output build/base

Writes model.safetensors (float16), config.json, tokenizer.json and manifest.json (sizes and sha256). Text is
generated (tasks.py) from the packaged list's training words; held-out words are never seen. One thread and
fixed seeds, so the same machine gives the same file; another one gives a model of the same quality.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from model import Config, Model
from safetensors.numpy import save_file
from tasks import TASKS, Example, make_example, make_task_example
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional

from tinker_actors.cli.piglatin import load_words

__all__ = ["build_tokenizer", "evaluate", "train"]

NAME = "tinker-actors/base-s"
PAD, BOS, EOS = 0, 1, 2
BYTE_OFFSET = 3
SHORT, LONG = 96, 256
"""Row lengths. Every fourth step takes long rows, so that the whole context of 256 tokens is trained."""
TOKENS_PER_STEP = 2304
PROMPT_WEIGHT = 0.1
DOCUMENT_END = 0.15
"""Chance that a document (eos, bos) ends after an example: the model learns to end and to start."""


def encode(text: str) -> list[int]:
    return [byte + BYTE_OFFSET for byte in text.encode("utf-8")]


def build_tokenizer() -> Tokenizer:
    """Byte level, no merges: id = byte + 3; 0 pad, 1 bos, 2 eos. Merges would hide the letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    symbol, spare = {}, 0
    for byte in range(256):  # the byte-to-symbol map of GPT-2, which ByteLevel implements
        if byte in printable:
            symbol[byte] = chr(byte)
        else:
            symbol[byte] = chr(256 + spare)
            spare += 1
    assert sorted(symbol.values()) == alphabet
    vocabulary = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS}
    vocabulary |= {symbol[byte]: byte + BYTE_OFFSET for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<bos>", "<eos>"])
    return tokenizer


class Rows:
    """Draws packed rows: a running stream of examples, cut where a row is full."""

    def __init__(self, words: Sequence[str], rng: random.Random) -> None:
        self.words, self.rng = words, rng

    def row(self, length: int) -> tuple[list[int], list[float]]:
        """Return length + 1 tokens and the loss weight of each as a target."""
        tokens, weights = [BOS], [0.0]
        while len(tokens) <= length:
            example = make_example(self.words, self.rng)
            prompt, answer = encode(example.prompt), encode(example.answer)
            tokens += prompt + answer
            weights += [PROMPT_WEIGHT] * len(prompt) + [1.0] * len(answer)
            if self.rng.random() < DOCUMENT_END:
                tokens += [EOS, BOS]
                weights += [PROMPT_WEIGHT, 0.0]
        return tokens[: length + 1], weights[: length + 1]

    def batch(self, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = [self.row(length) for _ in range(TOKENS_PER_STEP // length)]
        tokens = torch.tensor([row[0] for row in rows])
        weights = torch.tensor([row[1] for row in rows])
        return tokens[:, :-1], tokens[:, 1:], weights[:, 1:]


@torch.no_grad()
def greedy(model: Model, prompts: Sequence[str], limit: int) -> list[str]:
    rows = [[BOS, *encode(prompt)] for prompt in prompts]
    starts = [len(row) for row in rows]
    longest = max(starts) + limit
    tokens = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    ends = torch.tensor(starts)
    for _ in range(limit):  # right-padded: position ends-1 sees no padding, attention being causal
        logits = model(tokens[:, : int(ends.max())])
        choice = logits[torch.arange(len(rows)), ends - 1].argmax(-1)
        tokens[torch.arange(len(rows)), ends] = choice
        ends = ends + 1
    texts = []
    for row, start in zip(tokens.tolist(), starts, strict=True):
        data = bytes(max(token - BYTE_OFFSET, 0) for token in row[start : start + limit])
        texts.append(data.decode("utf-8", "replace").split("\n")[0] + "\n")
    return texts


def evaluate(model: Model, words: Sequence[str], per_task: int, rng: random.Random) -> dict[str, float]:
    """Return the greedy exact-match accuracy of each task on held-out words."""
    scores = {}
    for task in TASKS:
        examples: list[Example] = [make_task_example(task, rng.choice(words), rng) for _ in range(per_task)]
        answers = greedy(model, [example.prompt for example in examples], 24)
        hits = sum(a == e.answer for a, e in zip(answers, examples, strict=True))
        scores[examples[0].prompt.split(":")[0].rstrip("0123456789")] = hits / per_task
    return scores


def train(steps: int, seed: int) -> tuple[Model, dict[str, object]]:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    split = load_words()
    rows = Rows(split.train, random.Random(seed))
    model = Model(Config())
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    others = [p for n, p in model.named_parameters() if not (n.startswith("layers") and p.ndim == 2)]
    optimizers = [
        torch.optim.Muon(
            matrices, lr=6e-3, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw", ns_steps=4
        ),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]

    def scale(step: int) -> float:  # 50 warm-up steps, constant to half, then linear to 2 %
        return min((step + 1) / 50, 1.0, 0.02 + 0.98 * (steps - step) / (steps - steps // 2))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, scale) for optimizer in optimizers]
    started = time.monotonic()
    for step in range(steps):
        tokens, targets, weights = rows.batch(LONG if step % 4 == 3 else SHORT)
        losses = functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        if step % 100 == 99:
            answers = weights.flatten() == 1.0
            shown = losses.detach()[answers].mean().item()
            print(f"step {step + 1} answer loss {shown:.4f} {time.monotonic() - started:.0f} s", flush=True)
    model.half().float()  # what is shipped is what is evaluated
    scores = evaluate(model, split.held_out, 50, random.Random(seed + 1))
    report = {
        "seconds": round(time.monotonic() - started),
        "mean": sum(scores.values()) / len(scores),
        "tasks": scores,
    }
    return model, report


def write(model: Model, directory: Path, made_by: dict[str, object]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {name: p.detach().numpy().astype(np.float16) for name, p in sorted(model.named_parameters())}
    save_file(arrays, directory / "model.safetensors")
    c = model.config
    config = {
        "name": NAME,
        "architecture": "llama-like decoder, tied embeddings",
        "vocab_size": c.vocab_size, "d_model": c.d_model, "n_layers": c.n_layers, "n_heads": c.n_heads,
        "d_ff": c.d_ff, "rope_theta": c.rope_theta, "norm_eps": c.norm_eps, "max_context": LONG,
        "pad_id": PAD, "bos_id": BOS, "eos_id": EOS,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    build_tokenizer().save(str(directory / "tokenizer.json"), pretty=False)
    names = ("config.json", "model.safetensors", "tokenizer.json")
    contents = {name: (directory / name).read_bytes() for name in names}
    manifest = {
        "name": NAME,
        "license": "Apache-2.0",
        "made_by": made_by,
        "files": {n: {"bytes": len(b), "sha256": sha256(b).hexdigest()} for n, b in contents.items()},
    }
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model, report = train(arguments.steps, arguments.seed)
    print(json.dumps(report, indent=1))
    made_by = {"recipe": "recipes/base_model/train.py", "steps": arguments.steps, "seed": arguments.seed,
               "torch": torch.__version__, "held_out_task_accuracy": report["mean"]}  # fmt: skip
    write(model, arguments.output, made_by)


if __name__ == "__main__":
    main()
