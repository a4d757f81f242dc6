"""Teach a small model Pig Latin in 30 lines. First, in another terminal:

    tinker-actors serve --port 8000

then:

    TINKER_BASE_URL=http://127.0.0.1:8000 TINKER_API_KEY=tml-local python examples/quickstart.py
"""

import random

import trio

import tinker_actors as ta
from tinker_actors.cli.piglatin import answer, load_words, prompt


async def main(steps: int = 60) -> None:
    draw = random.Random(0)
    async with ta.open_runtime(seed=0) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client("tinker-actors/base-s", rank=16)
        tokenizer, words = await client.get_tokenizer(), load_words()

        def example(word: str) -> ta.Datum:
            asked, reply = tokenizer.encode("<bos>" + prompt(word)), tokenizer.encode(answer(word))
            weights = [0.0] * (len(asked) - 1) + [1 / 300] * len(reply)  # 32 words have about 300 answer tokens
            tokens = asked + reply
            return ta.Datum(ta.ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": weights})

        for step in range(steps):
            batch = [example(word) for word in draw.sample(words.train, 32)]
            forward_backward = await client.forward_backward(batch, "cross_entropy")
            await client.optim_step(ta.AdamParams(learning_rate=3e-3 * (1 - step / steps)))
            print(f"step {step + 1}: loss {(await forward_backward).metrics['loss:sum']:.3f}")

        sampler = await client.save_weights_and_get_sampling_client()
        greedy = ta.SamplingParams(max_tokens=16, temperature=0.0, stop="\n")
        for word in draw.sample(words.held_out, 5):
            asked = ta.ModelInput.from_ints(tokenizer.encode("<bos>" + prompt(word)))
            response = await sampler.sample(asked, 1, greedy)
            print(word, "->", tokenizer.decode(response.sequences[0].tokens.tolist()).strip())


trio.run(main)
