"""One side of the benchmark in a process of its own: ``side.py ours|trl MODEL --...``; prints one line of JSON."""

from __future__ import annotations

# ruff: noqa: E402
import time

BEGUN = time.perf_counter()

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "WANDB_DISABLED": "true"}
sys.path.insert(0, str(Path(__file__).parent))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["ours", "trl"])
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt-length", type=int, default=0)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def questions(a: argparse.Namespace) -> list[str]:
    from models import question

    rng = random.Random(a.seed)
    return [question(rng, a.prompt_length)[0] for _ in range(a.prompts * (a.warm_up + a.steps))]


def digits(prompts: list[str], completions: list[str], **_: object) -> list[float]:
    """A dense reward that costs nothing: the share of digits."""
    return [sum(c.isdigit() for c in text) / max(1, len(text)) for text in completions]


def ours(a: argparse.Namespace, marks: list[float], tokens: list[int], rewards: list[float]) -> None:
    from selfreward.answers import Regex
    from selfreward.config import TrainConfig
    from selfreward.models import load_policy
    from selfreward.recipes.base import Recipe
    from selfreward.tasks import Task
    from selfreward.trainer import Trainer
    from selfreward.types import Prompt

    class Digits(Recipe):
        name, mechanism = "digits", "groups"

        def collect(self, policy, prompts, run):
            groups = policy.sample(prompts, self.group_size, run.sampling)
            for group in groups:
                group.reward_with(digits([], group.completions))
                run.count("groups")
            return self.learn_from(groups)

    prompts = [Prompt(str(i), text=q) for i, q in enumerate(questions(a))]
    config = TrainConfig(
        model=a.model, steps=a.warm_up + a.steps, prompts_per_step=a.prompts, max_new_tokens=a.new_tokens, lr=a.lr,
        adam_eps=1e-8, adam_beta2=0.999, eval_prompts=0, eval_every=0, checkpoint_every=0, log_groups=0, sentinel="off",
        out=tempfile.mkdtemp(), threads=1,
    )  # fmt: skip
    task = Task("bench", prompts, [], Regex(r"\d+"), lambda text: True)
    seen = [0]

    def look(record):
        marks.append(time.perf_counter())
        tokens.append(record["tokens/generated"] - seen[0])
        seen[0] = record["tokens/generated"]
        rewards.append(record["reward/mean"])

    trainer = Trainer(load_policy(a.model), Digits(group_size=a.group, normalise="grpo"), task, config, on_step=look)
    trainer._save = lambda: None  # neither side writes checkpoints
    marks.append(time.perf_counter())
    trainer.fit()


def trl(a: argparse.Namespace, marks: list[float], tokens: list[int], rewards: list[float]) -> None:
    import torch

    torch.set_num_threads(1)
    import transformers
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    transformers.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(a.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)

    def reward(prompts, completions, completion_ids, **_):
        tokens.append(sum(len(c) for c in completion_ids))
        values = digits(prompts, completions)
        rewards.append(sum(values) / len(values))
        return values

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            marks.append(time.perf_counter())

    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, fp16=False, max_steps=a.warm_up + a.steps,
        per_device_train_batch_size=a.prompts * a.group, gradient_accumulation_steps=1, num_generations=a.group,
        max_completion_length=a.new_tokens, learning_rate=a.lr, lr_scheduler_type="constant", beta=0.0,
        loss_type="grpo",
        temperature=1.0, logging_steps=1000, save_strategy="no", report_to=[], disable_tqdm=True, seed=a.seed,
        gradient_checkpointing=False, dataloader_num_workers=0, dataloader_pin_memory=False, shuffle_dataset=False,
        max_grad_norm=1.0, weight_decay=0.0,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": q} for q in questions(a)])
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    marks.append(time.perf_counter())
    trainer.train()


def main() -> None:
    a = arguments()
    marks: list[float] = []
    tokens: list[int] = []
    rewards: list[float] = []
    {"ours": ours, "trl": trl}[a.side](a, marks, tokens, rewards)
    steps = [b - c for b, c in zip(marks[1:], marks)]
    timed = steps[a.warm_up :]
    print(
        json.dumps(
            {
                "side": a.side,
                "first_step_s": marks[1] - BEGUN,
                "step_s": statistics.median(timed),
                "steps_s": [round(s, 4) for s in timed],
                "tokens": statistics.median(tokens[a.warm_up :]),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "rewards": [round(r, 4) for r in rewards],
            }
        )
    )


main()
