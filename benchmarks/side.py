"""One side of the benchmark in a process of its own: ``side.py ours|trl MODEL --...``; prints one line of JSON."""

from __future__ import annotations

# ruff: noqa: E402
import time

BEGUN = time.perf_counter()

import argparse
import json
import os
import random
import re
import resource
import statistics
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
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
    parser.add_argument("--reward", choices=["digits", "vote"], default="digits")
    parser.add_argument("--full-length", action="store_true", help="no completion ends before the limit")
    parser.add_argument("--without", nargs="*", default=[], help="ingredients to leave out (ours): see ingredients.py")
    parser.add_argument("--alternate", action="store_true", help="leave out in every second step only (ours)")
    parser.add_argument("--dtype", default="float32", help="of ours")
    parser.add_argument("--threads", type=int, default=1, help="of ours")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def questions(a: argparse.Namespace) -> list[str]:
    from models import question

    rng = random.Random(a.seed)
    return [question(rng, a.prompt_length)[0] for _ in range(a.prompts * (a.warm_up + a.steps))]


def digits(completions: list[str], group: int) -> list[float]:
    """A dense reward: the share of digits."""
    return [sum(c.isdigit() for c in text) / max(1, len(text)) for text in completions]


def vote(completions: list[str], group: int) -> list[float]:
    """1 for the last number that most of the group end with, else 0."""
    found = [re.findall(r"\d+", text) for text in completions]
    answers = [numbers[-1] if numbers else "" for numbers in found]
    result: list[float] = []
    for at in range(0, len(answers), group):
        mine = answers[at : at + group]
        most = Counter(m for m in mine if m).most_common(1)
        result += [float(bool(most) and m == most[0][0]) for m in mine]
    return result


REWARDS: dict[str, Callable[[list[str], int], list[float]]] = {"digits": digits, "vote": vote}


class Record:
    """What a side reports: when each step ended, its tokens and its mean reward; memory before the first step."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.tokens: list[int] = []
        self.rewards: list[float] = []
        self.ready_mb = 0.0

    def ready(self) -> None:
        self.ready_mb = peak_mb()
        self.marks.append(time.perf_counter())


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(a: argparse.Namespace, record: Record) -> None:
    from selfreward.data.answers import Regex
    from selfreward.data.task import Task
    from selfreward.policy.loading import load_policy
    from selfreward.recipes.grpo import GRPO
    from selfreward.runtime import distributed
    from selfreward.training.config import TrainConfig
    from selfreward.training.trainer import Trainer
    from selfreward.types import Prompt

    distributed.start()  # joins the others under torchrun
    reward = REWARDS[a.reward]

    class Benchmark(GRPO):
        name, mechanism = "benchmark", "groups"

        def collect(self, policy, prompts, run):
            groups = policy.sample(prompts, self.group_size, run.sampling)
            for group in groups:
                group.reward_with(reward(group.completions, self.group_size))
                run.count("groups")
            return self.learn_from(groups)

    prompts = [Prompt(str(i), text=q) for i, q in enumerate(questions(a))]
    config = TrainConfig(
        model=a.model, steps=a.warm_up + a.steps, prompts_per_step=a.prompts, max_new_tokens=a.new_tokens, lr=a.lr,
        adam_eps=1e-8, adam_beta2=0.999, eval_prompts=0, eval_every=0, checkpoint_every=0, log_groups=0, sentinel="off",
        out=tempfile.mkdtemp(), threads=a.threads,
    )  # fmt: skip
    task = Task("bench", prompts, [], Regex(r"\d+"), lambda text: True)
    seen = [0]

    def look(metrics):
        record.marks.append(time.perf_counter())
        record.tokens.append(metrics["tokens/generated"] - seen[0])
        seen[0] = metrics["tokens/generated"]
        record.rewards.append(metrics["reward/mean"])
        if a.alternate:
            put_back(len(record.rewards) % 2 == 1)

    policy = load_policy(a.model, dtype=a.dtype)
    if a.full_length:
        type(policy).end_tokens = []  # nothing ends a completion
    if a.without:
        from ingredients import leave_out, put_back

        leave_out(a.without)
        put_back(not a.alternate)
    trainer = Trainer(policy, Benchmark(group_size=a.group, normalise="grpo"), task, config, on_step=look)
    trainer._save = lambda: None  # neither side writes checkpoints
    record.ready()
    trainer.fit()


def trl(a: argparse.Namespace, record: Record) -> None:
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
        record.tokens.append(sum(len(c) for c in completion_ids))
        values = REWARDS[a.reward](completions, a.group)
        record.rewards.append(sum(values) / len(values))
        return values

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            record.marks.append(time.perf_counter())

    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, fp16=False, max_steps=a.warm_up + a.steps,
        per_device_train_batch_size=a.prompts * a.group, gradient_accumulation_steps=1, num_generations=a.group,
        max_completion_length=a.new_tokens, learning_rate=a.lr, lr_scheduler_type="constant", beta=0.0,
        loss_type="grpo", temperature=1.0, top_k=0, top_p=1.0, logging_steps=1000, save_strategy="no", report_to=[],
        disable_tqdm=True, seed=a.seed, gradient_checkpointing=False, dataloader_num_workers=0,
        dataloader_pin_memory=False, shuffle_dataset=False, max_grad_norm=1.0, weight_decay=0.0,
        generation_kwargs={"suppress_tokens": [tokenizer.eos_token_id]} if a.full_length else None,
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
    record.ready()
    trainer.train()


def main() -> None:
    a = arguments()
    record = Record()
    {"ours": ours, "trl": trl}[a.side](a, record)
    steps = [b - c for b, c in zip(record.marks[1:], record.marks)]
    timed = steps[a.warm_up :]
    print(
        json.dumps(
            {
                "side": a.side,
                "first_step_s": record.marks[1] - BEGUN,
                "step_s": statistics.median(timed),
                "steps_s": [round(s, 4) for s in timed],
                "tokens": record.tokens[a.warm_up :],
                "peak_mb": peak_mb(),
                "ready_mb": record.ready_mb,
                "rewards": [round(r, 4) for r in record.rewards],
            }
        )
    )


main()
