"""Teach a small model Pig Latin from a plain script: no async, no trio. First, in another terminal:

    tinker-actors serve --port 8000

then:

    TINKER_BASE_URL=http://127.0.0.1:8000 TINKER_API_KEY=tml-local python examples/plain_script.py
"""

import random

import tinker_actors as ta
from tinker_actors.cli.piglatin import answer, load_words, prompt


def main(steps: int = 20) -> None:
    draw, words = random.Random(0), load_words()
    with ta.blocking_runtime(seed=0) as runtime:
        service = runtime.create_service_client()
        client = service.create_lora_training_client("tinker-actors/base-s", rank=16)
        tokenizer = client.get_tokenizer()

        def example(word: str) -> ta.Datum:
            asked, reply = tokenizer.encode("<bos>" + prompt(word)), tokenizer.encode(answer(word))
            tokens, weights = asked + reply, [0.0] * (len(asked) - 1) + [1 / 300] * len(reply)
            return ta.Datum(ta.ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": weights})

        for step in range(steps):
            batch = [example(word) for word in draw.sample(words.train, 32)]
            forward_backward = client.forward_backward(batch)  # a future, as soon as the operation is accepted
            client.optim_step(ta.AdamParams(learning_rate=3e-3))
            print(f"step {step + 1}: loss {forward_backward.result().metrics['loss:sum']:.3f}")

        sampler = client.save_weights_and_get_sampling_client()
        for word in draw.sample(words.held_out, 3):
            asked = ta.ModelInput.from_ints(tokenizer.encode("<bos>" + prompt(word)))
            response = sampler.sample(asked, 1, ta.SamplingParams(max_tokens=16, temperature=0.0, stop="\n"))
            print(word, "->", tokenizer.decode(response.sequences[0].tokens.tolist()).strip())


main()
