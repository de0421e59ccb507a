"""Several turns by one policy: a script of turns is played on whole batches, and every turn is its own segment.

A :class:`Turn` says who speaks, what stands before it, when it is taken, what it is worth, and whether and how
tightly (KL) it is learned. A protocol is a list of turns: attempt and fix (SCoRe), attempt, reflection if it failed
and retry (Reflect-Retry-Reward), K refinements, a tool's answer between two calls. Each turn is sampled for
all trajectories that take it in one call, so that a protocol of K turns costs K calls however many prompts it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from selfreward.errors import RecipeError
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams, occurrences
from selfreward.types import Group, Message, Prompt, Segment, Trajectory

# Stands for a message whose place in a rendered chat is looked for, see :func:`around`.
HERE = "\u2063here\u2063"


@dataclass(frozen=True)
class Turn:
    """One step of a protocol.

    Attributes:
        role: names the segment, the cost account and, with others of its name, a baseline.
        lead: what the other side says before it (``{question}`` in it is replaced): words of the user in a chat,
            plain text otherwise. Empty: the policy goes on at once.
        when: whether a trajectory takes the turn; what says no stays as it is.
        score: reward of the new segment, from the trajectory that ends with it.
        say: the text of the turn instead of a sample (a tool's answer, a swapped reflection); never trained.
        trainable, kl_weight: see :class:`Segment`.
        params: how to sample this turn, where that differs from the others.
    """

    role: str
    lead: str | Callable[[Trajectory], str] = ""
    when: Callable[[Trajectory], bool] | None = None
    score: Callable[[Trajectory], float] | None = None
    say: Callable[[Trajectory], str] | None = None
    trainable: bool = True
    kl_weight: float = 1.0
    params: SamplingParams | None = None


def interlude(policy: Policy, text: str, finished: bool = True) -> list[int]:
    """Token ids between the end of one turn of the policy and the start of its next.

    In a chat template ``text`` is a user message; otherwise it stands as it is. A turn that was cut off
    (``finished=False``) is closed first; that is all there is to do for an empty ``text``.

    Raises:
        RecipeError: when the chat template hides earlier answers.
    """
    closed = [] if finished else policy.end_tokens[:1]
    if not text:
        return closed
    if policy.chat == "never" or not policy.tokenizer.chat_template:
        return closed + list(policy.tokenizer(text, add_special_tokens=False)["input_ids"])
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": HERE},
        {"role": "user", "content": text},
    ]
    found = around(policy, turns, add_generation_prompt=True)
    if found is None:
        raise RecipeError("The chat template of this model does not show earlier answers, so turns cannot follow one.")
    ids = list(policy.tokenizer(found[1], add_special_tokens=False)["input_ids"])
    return ids[1:] if finished and ids[:1] and ids[0] in policy.end_tokens else ids


def around(policy: Policy, messages: Sequence[Message], **options: Any) -> tuple[str, str] | None:
    """What the chat template writes before and after the message that is :data:`HERE`; None where it leaves it out.

    Args:
        options: of the tokenizer's ``apply_chat_template``.
    """
    rendered = str(policy.tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, **options))
    before, here, after = rendered.partition(HERE)
    return (before, after) if here else None


def prompt_only(policy: Policy, prompt: Prompt) -> Trajectory:
    """A trajectory that holds the prompt and no turn yet."""
    return Trajectory(prompt, [Segment("prompt", torch.tensor(policy.encode(prompt), dtype=torch.long))])


def take(
    policy: Policy, trajectories: Sequence[Trajectory], turn: Turn, params: SamplingParams, n: int = 1
) -> list[list[Trajectory]]:
    """Every trajectory with one more turn, ``n`` times; the given ones are left as they are.

    Returns:
        Per trajectory its ``n`` continuations, or itself alone where it does not take the turn.

    Raises:
        RecipeError: when a context and the turn would not fit into the model.
    """
    going = [i for i, t in enumerate(trajectories) if turn.when is None or turn.when(t)]
    params = turn.params or params
    heads: list[list[Segment]] = []
    for i in going:
        trajectory = trajectories[i]
        lead = turn.lead(trajectory) if callable(turn.lead) else turn.lead
        lead = lead.replace("{question}", trajectory.prompt.question)
        fresh = len(trajectory.segments) == 1 and trajectory.segments[0].role == "prompt"
        between = [] if fresh and not lead else interlude(policy, lead, fresh or trajectory.segments[-1].finished)
        instruction = [Segment("instruction", torch.tensor(between, dtype=torch.long), lead)] if between else []
        heads.append([*trajectory.segments, *instruction])
    contexts = [torch.cat([s.tokens for s in head]).tolist() for head in heads]
    longest = max(map(len, contexts), default=0) + params.max_new_tokens
    if policy.context is not None and longest > policy.context:
        raise RecipeError(
            f"The turn {turn.role!r} needs {longest} tokens with what came before it, but the model reads "
            f"{policy.context}. Lower max_new_tokens, or use shorter prompts."
        )
    if turn.say is not None:
        drawn = [[told(policy, turn.role, turn.say(trajectories[i]))] * n for i in going]
    else:
        # The draw depends on which sibling it is, not on where it stands in the batch.
        names = [trajectories[i].prompt.id for i in going]
        keys = [f"{name}/{k}" if k else name for name, k in zip(names, occurrences(names), strict=True)]
        completions = policy.sample_ids(contexts, n, params, keys=keys, role=turn.role)
        drawn = [
            [replace(policy.segment(turn.role, c), trainable=turn.trainable, kl_weight=turn.kl_weight) for c in several]
            for several in completions
        ]
    result = [[t] for t in trajectories]
    for i, head, segments in zip(going, heads, drawn, strict=True):
        old = trajectories[i]
        result[i] = [replace(old, segments=[*head, replace(s)], meta=dict(old.meta)) for s in segments]
        if turn.score is not None:
            for trajectory in result[i]:
                trajectory.segments[-1].reward = float(turn.score(trajectory))
    return result


def told(policy: Policy, role: str, text: str, *, trainable: bool = False, finished: bool = True) -> Segment:
    """A text that the policy did not sample, in its tokens and ended, as a segment."""
    ids = list(policy.tokenizer(text, add_special_tokens=False)["input_ids"]) + policy.end_tokens[:1] * finished
    return Segment(role, torch.tensor(ids, dtype=torch.long), text, trainable=trainable, finished=finished)


def retold(policy: Policy, group: Group, role: str) -> Group:
    """Another model's texts in ``policy``'s own tokens: nothing of it is used but what it wrote."""
    head = prompt_only(policy, group.prompt).segments
    own = [told(policy, role, t.completion, trainable=True, finished=t.finished) for t in group]
    return Group(group.key, group.prompt, [Trajectory(group.prompt, [*head, last]) for last in own])


def play(
    policy: Policy,
    starts: Sequence[Prompt | Trajectory],
    turns: Sequence[Turn],
    params: SamplingParams,
    n: int = 1,
    *,
    view: str = "",
) -> list[Group]:
    """Play a protocol: ``n`` trajectories from every start, which part ways at the first turn.

    A start is a prompt, or a trajectory to go on from (a stored failure, the prefix of a better one). The
    trajectory's reward is that of its last scored segment.

    Raises:
        RecipeError: without turns.
    """
    if not turns:
        raise RecipeError("A protocol needs at least one turn.")
    begun = [prompt_only(policy, s) if isinstance(s, Prompt) else s for s in starts]
    families = take(policy, begun, turns[0], params, n)
    for turn in turns[1:]:
        flat = iter(take(policy, [t for family in families for t in family], turn, params))
        families = [[next(flat)[0] for _ in family] for family in families]
    groups = []
    keys = ["/".join(x for x in (first.prompt.id, view, turns[0].role) if x) for first in begun]
    for first, family, key, before in zip(begun, families, keys, occurrences(keys), strict=True):
        for trajectory in family:
            scored = [s.reward for s in trajectory.segments if s.reward is not None]
            trajectory.reward = scored[-1] if scored else trajectory.reward
        groups.append(Group(f"{key}#{before + 1}" if before else key, first.prompt, family))
    return groups


def segment_of(trajectory: Trajectory, role: str, which: int = -1) -> Segment | None:
    """The ``which``-th segment of a role, the last by default; None where the trajectory has none."""
    found = [s for s in trajectory.segments if s.role == role]
    return found[which] if -len(found) <= which < len(found) else None
