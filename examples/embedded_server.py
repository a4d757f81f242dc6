"""A server and its client in one program, with no socket and no second terminal:

python examples/embedded_server.py
"""

import trio

import tinker_actors as ta


async def main() -> None:
    async with ta.local_server() as server, ta.open_runtime(server=server) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client("tinker-actors/base-s", rank=8)
        tokenizer = await client.get_tokenizer()
        tokens = tokenizer.encode("<bos>the cat sat on the mat\n")
        inputs = {"target_tokens": tokens[1:], "weights": [1.0] * len(tokens[1:])}
        data = [ta.Datum(ta.ModelInput.from_ints(tokens[:-1]), inputs)]
        for step in range(8):
            losses = await client.forward_backward(data, "cross_entropy")
            update = await client.optim_step(ta.AdamParams(learning_rate=1e-2))
            print(f"step {step + 1}: loss {(await losses).metrics['loss:sum']:.2f}")
        await update
        print(f"the server applied {len(server.service.applied(client.model_id))} operations")


trio.run(main)
