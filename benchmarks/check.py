"""The same loss and gradients as trl on one frozen batch: speed is not bought with other arithmetic.

Completions are sampled once, by ours; both sides get the same tokens and advantages. Prints the loss of each and the
largest difference of a gradient, relative to the largest gradient; fails beyond 1e-4 (float32).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("evidence/speed.json"))
    a = parser.parse_args()

    import random

    import torch

    torch.set_num_threads(1)
    from datasets import Dataset
    from models import question
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from selfreward.credit.rows import row_of
    from selfreward.losses import PolicyGradient
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.training.learner import Learner
    from selfreward.types import Experience, Prompt

    rng = random.Random(0)
    prompts = [Prompt(str(i), text=question(rng)[0]) for i in range(a.prompts)]
    policy = load_policy(str(a.model))
    policy.seed(0)
    groups = policy.sample(prompts, a.group, SamplingParams(max_new_tokens=32))
    generator = torch.Generator().manual_seed(0)
    rows = []
    for k, group in enumerate(groups):
        # One group without advantage: it is skipped by ours and counts in the mean of both.
        advantages = torch.zeros(a.group) if k == 0 else torch.randn(a.group, generator=generator)
        rows += [row_of(t, float(x)) for t, x in zip(group, advantages, strict=True)]

    learner = Learner(policy, torch.optim.SGD(policy.parameters(), lr=0.0), lambda _: 0.0)
    metrics = learner.accumulate(Experience(rows), range(len(rows)), [PolicyGradient(normalise="grpo")])
    mine = {n: p.grad.clone() for n, p in policy.model.named_parameters()}

    tokenizer = AutoTokenizer.from_pretrained(a.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, beta=0.0, loss_type="grpo", report_to=[],
        per_device_train_batch_size=len(rows), num_generations=a.group, gradient_accumulation_steps=1,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=config,
        train_dataset=Dataset.from_list([{"prompt": "1+1="}] * 8), processing_class=tokenizer,
    )  # fmt: skip
    trajectories = [t for g in groups for t in g]
    heads = [t.tokens[: len(t.tokens) - len(t.last)] for t in trajectories]
    tails = [t.last.tokens for t in trajectories]
    pad = torch.nn.utils.rnn.pad_sequence
    left = [len(max(heads, key=len)) - len(h) for h in heads]
    zeros = [torch.zeros(n, dtype=torch.long) for n in left]
    inputs = {
        "prompt_ids": torch.stack([torch.cat([z + tokenizer.pad_token_id, h]) for z, h in zip(zeros, heads)]),
        "prompt_mask": torch.stack([torch.cat([z, torch.ones_like(h)]) for z, h in zip(zeros, heads)]),
        "completion_ids": pad(tails, batch_first=True, padding_value=tokenizer.pad_token_id),
        "completion_mask": pad([torch.ones_like(t) for t in tails], batch_first=True),
        "advantages": torch.stack([r.advantage[r.mask > 0][0] for r in rows]),
        "old_per_token_logps": pad([t.last.logprobs for t in trajectories], batch_first=True),
        "num_items_in_batch": sum(map(len, tails)),
    }
    loss = trainer.compute_loss(model, inputs)
    loss.backward()
    scale = max(float(p.grad.abs().max()) for p in model.parameters())
    worst = max(float((mine[n] - p.grad).abs().max()) for n, p in model.named_parameters()) / scale
    found = {"loss_ours": metrics["loss"], "loss_trl": float(loss), "largest_gradient_difference": worst}
    result = json.loads(a.out.read_text()) if a.out.exists() else {}
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps(result | {"frozen_batch": found}, indent=1) + "\n")
    print(found)
    if worst > 1e-4:
        raise SystemExit("The gradients differ.")


main()
