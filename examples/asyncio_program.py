"""Train and sample from an asyncio program, many samples at a time. First, in another terminal:

    tinker-actors serve --port 8000

then:

    TINKER_BASE_URL=http://127.0.0.1:8000 TINKER_API_KEY=tml-local python examples/asyncio_program.py
"""

import asyncio

import tinker_actors as ta

PROMPT, TARGET = "one two three four ", "five"


async def main(steps: int = 20) -> None:
    with ta.blocking_runtime(seed=0) as runtime:
        service = await runtime.create_service_client_async()
        client = await service.create_lora_training_client_async("tinker-actors/base-s", rank=16)
        tokenizer = await client.get_tokenizer_async()
        asked, tokens = tokenizer.encode("<bos>" + PROMPT), tokenizer.encode("<bos>" + PROMPT + TARGET + "\n")
        weights = [0.0] * (len(asked) - 1) + [1.0] * (len(tokens) - len(asked))
        datum = ta.Datum(ta.ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": weights})

        # The order of the calls is the order in which the server applies them: all of them can be under way.
        losses = []
        for _ in range(steps):
            losses.append(client.forward_backward_async([datum]))
            client.optim_step_async(ta.AdamParams(learning_rate=1e-2))
        for step, loss in enumerate(losses):
            print(f"step {step + 1}: loss {(await loss).metrics['loss:sum']:.3f}")

        saved = await client.save_weights_for_sampler_async("counting")
        sampler = await service.create_sampling_client_async(model_path=saved.path)
        params = ta.SamplingParams(max_tokens=8, temperature=0.7, stop="\n")
        many = [sampler.sample_async(ta.ModelInput.from_ints(asked), 1, params) for _ in range(16)]
        answers = [tokenizer.decode(one.sequences[0].tokens.tolist()).strip() for one in await asyncio.gather(*many)]
        print(f"{answers.count(TARGET)} of {len(answers)} samples go on with {TARGET!r}")


asyncio.run(main())
