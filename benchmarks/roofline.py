"""How far sampling is from the memory-bandwidth roofline, and training from the arithmetic one, on this device.

    python benchmarks/roofline.py                                  # a Llama of 0.2 M on a CPU, of 1 B on a GPU
    python benchmarks/roofline.py --model FOLDER --batch 64 256 --out roofline.json

Both peaks are measured here, not taken from a data sheet: bandwidth by copying a large tensor, arithmetic by
multiplying large matrices in the number format of the weights. A decoding step must read every weight once, and each
sequence's keys and values; it cannot be faster than these bytes over the bandwidth, nor than its multiplications over
the arithmetic. Training counts 6 operations per weight and token (the convention of model FLOP utilisation), and 12 x
layers x length x width more for attention.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="model folder; without it a random Llama")
    parser.add_argument("--width", type=int, help="of the random Llama")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, nargs="+", help="sequences sampled at once")
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Median over ``rounds``, after one that is not counted."""
    taken = []
    for _ in range(rounds + 1):
        wait(device)
        begun = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


def peaks(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes per second of a copy (read and written bytes count), and operations per second of a matrix product."""
    large = device.type == "cuda"
    block = torch.ones(2**28 if large else 2**24, device=device)
    target = torch.empty_like(block)
    bandwidth = 2 * block.numel() * block.element_size() / seconds(lambda: target.copy_(block), device, 5)
    n = 8192 if large else 768
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return bandwidth, 2 * n**3 / seconds(lambda: a @ b, device, 5)


def build(a: argparse.Namespace) -> Any:
    """A policy: of the folder, or random."""
    from selfreward.policy.loading import load_policy, pick_device

    if a.model:
        return load_policy(a.model, dtype=a.dtype, device=a.device, gradient_checkpointing=a.gradient_checkpointing)
    from models import tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    from selfreward.policy.policy import Policy

    device = pick_device(a.device)
    gpu = device.type == "cuda"
    width, layers = a.width or (2048 if gpu else 64), a.layers or (16 if gpu else 4)
    tok = tokenizer(32_000 if gpu else 0)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=width, intermediate_size=8 * width // 3 // 8 * 8, num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64), num_key_value_heads=max(1, width // 128), max_position_embeddings=4096,
        bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    kind = {"auto": torch.bfloat16 if gpu else torch.float32}.get(a.dtype) or getattr(torch, a.dtype)
    with device:
        model = LlamaForCausalLM(config).to(kind)
    if a.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Policy(model, tok)


def main() -> None:
    a = arguments()
    from selfreward.credit.rows import advantage_experience
    from selfreward.losses import PolicyGradient
    from selfreward.policy.sampling.default import default_sampler
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.training.learner import Learner, make_optimizer, make_schedule
    from selfreward.types import Group, Prompt, Segment, Trajectory

    policy = build(a)
    device, model = policy.device, policy.model
    if device.type == "cpu":
        torch.set_num_threads(1)
    weight = next(model.parameters())
    bandwidth, arithmetic = peaks(device, weight.dtype)
    shape = model.config.get_text_config()
    embedding = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is embedding
    # The table of embeddings is looked up, not multiplied; a head of its own is among the rest.
    parameters = sum(p.numel() for p in model.parameters()) - (0 if tied else embedding.numel())
    head = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    cached = 2 * shape.num_hidden_layers * shape.num_key_value_heads * head * weight.element_size()
    length = a.prompt + a.new
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU, 1 thread",
        "parameters": parameters,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "bandwidth_gb_s": bandwidth / 1e9,
        "peak_tflop_s": arithmetic / 1e12,
        "decode": [],
        "train": [],
    }
    params = SamplingParams(a.new, stats=("entropy", "self_certainty"), max_rows=10**9)
    prompt = torch.arange(3, 3 + a.prompt).remainder(50).tolist()
    sampler = default_sampler(model)
    for batch in a.batch or ([8, 64, 512] if device.type == "cuda" else [8, 64]):
        # No end token, so that every sequence is as long as the others.
        def draw(new: int, batch: int = batch) -> Any:
            asked = SamplingParams(new, stats=params.stats, max_rows=params.max_rows)
            return sampler(model, [prompt], [batch], asked, keys=["0"], seed=0, end_tokens=[], pad_token=0)

        # Less the time to the first token, which is the prompt's.
        taken = seconds(lambda: draw(a.new), device, a.rounds) - seconds(lambda: draw(1), device, a.rounds)
        steps = a.new - 1
        moved = parameters * weight.element_size() + batch * cached * (a.prompt + a.new / 2)
        least = max(moved / bandwidth, 2 * parameters * batch / arithmetic)
        result["decode"].append(
            {
                "batch": batch,
                "tokens_per_s": batch * steps / taken,
                "roofline_tokens_per_s": batch / least,
                "share": least * steps / taken,
                "bound": "bandwidth" if moved / bandwidth > 2 * parameters * batch / arithmetic else "arithmetic",
            }
        )
        rows = draw(a.new)[0]
        group = Group("0", Prompt("0", text="0"), [])
        for i, c in enumerate(rows):
            # Prompts differ, so that nothing is shared and every token is read.
            ids = torch.tensor([3 + i % 40, *prompt[1:]])
            own = Segment("solver", c.tokens, "", c.logprobs, trainable=True, finished=False, stats=c.stats)
            group.trajectories.append(Trajectory(group.prompt, [Segment("prompt", ids), own]))
        group.reward_with([float(i) for i in range(batch)])
        experience = advantage_experience([group])
        learner = Learner(
            policy, make_optimizer(policy, 1e-9, (0.9, 0.95), 1e-8, 0.0), make_schedule("constant", 1e-9, 0, 1)
        )

        def learn(learner: Learner = learner, experience: Any = experience) -> Any:
            return learner.learn(experience, [PolicyGradient()], torch.Generator().manual_seed(0))

        taken = seconds(learn, device, a.rounds)
        work = 6 * parameters + 12 * shape.num_hidden_layers * length * shape.hidden_size
        result["train"].append(
            {
                "sequences": batch,
                "tokens_per_s": batch * length / taken,
                "tflop_s": batch * length * work / taken / 1e12,
                "share": batch * length * work / taken / arithmetic,
            }
        )
        del learner
    if device.type == "cuda":
        result["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    print(f"{result['device']}: {parameters / 1e6:.1f} M parameters, {result['dtype']}")
    print(f"copy {bandwidth / 1e9:.0f} GB/s, matrix product {arithmetic / 1e12:.2f} TFLOP/s")
    for d in result["decode"]:
        rate, share = d["tokens_per_s"], d["share"]
        print(f"decode {d['batch']:5d}: {rate:10.0f} tokens/s, {share:6.1%} of the {d['bound']} roofline")
    for t in result["train"]:
        print(f"train  {t['sequences']:5d}: {t['tokens_per_s']:10.0f} tokens/s, {t['share']:6.1%} of peak arithmetic")
    if a.out:
        a.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
