"""A training run that survives its own death. First, in another terminal:

    tinker-actors serve --port 8000 --directory checkpoints

then:

    TINKER_BASE_URL=http://127.0.0.1:8000 TINKER_API_KEY=tml-local python examples/job.py

Press Ctrl-C, or kill -9 it, and run it again, or `tinker-actors job resume pig-latin`: it goes on where it was.
"""

import sys

import trio

import tinker_actors as ta
from tinker_actors.cli.piglatin import answer, load_words, prompt


async def main(steps: int = 60) -> None:
    words = load_words()
    policy = ta.CheckpointPolicy(every_steps=5, ttl_seconds=7 * 24 * 3600)
    async with (
        ta.open_runtime() as runtime,
        runtime.job(
            "pig-latin", base_model="tinker-actors/base-s", rank=16, seed=0, steps=steps, checkpoints=policy
        ) as job,
    ):
        tokenizer = await job.client.get_tokenizer()

        def example(word: str) -> ta.Datum:
            asked, reply = tokenizer.encode("<bos>" + prompt(word)), tokenizer.encode(answer(word))
            tokens, weights = asked + reply, [0.0] * (len(asked) - 1) + [1 / 300] * len(reply)
            return ta.Datum(ta.ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": weights})

        for step in job.steps():
            batch = [example(word) for word in job.rng.sample(words.train, 32)]
            loss = await job.client.forward_backward(batch)
            await job.client.optim_step(ta.AdamParams(learning_rate=3e-3 * (1 - step / (steps + 1))))
            job.log({"loss": (await loss).metrics["loss:sum"]})
            print(f"step {step}, a crash now costs {job.crash_costs}", flush=True)
    print("done" if job.done else f"stopped: {job.stopped}")


trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 60)
