"""Sequences as trees of their prefixes, so that what several begin with is computed once.

The completions of a group share their prompt, some share more, and some are the same word for word. To a causal
model the state of a token depends on what precedes it and on nothing else; so every *distinct prefix* needs one state.
A batch of sequences becomes a batch of trees: the nodes are tokens, a node attends to its ancestors, and its position
is its depth. Nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.policy.architecture import full_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The arithmetic of one token outside attention, counted in pairs of attending tokens, is about this many times the
# width of the model: 24 width^2 operations against 4 width for a pair (Llama's proportions).
PAIRS_PER_WIDTH = 6
# Nodes of one tree: its mask is dense, 16 MB at this size.
LARGEST = 4096


@dataclass
class Tree:
    """Distinct prefixes of sequences that begin alike; nodes are numbered in the order in which they were added.

    Attributes:
        tokens, depths: one per node; a node at depth 0 has no parent.
        branches: ``(first node, path)``: the nodes from the first on follow one another, below the ancestors ``path``.
        paths: per sequence the nodes of its tokens.
        members: per sequence its number in the list from which the tree was built.
    """

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    branches: list[tuple[int, list[int]]] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    members: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, member: int, sequence: Sequence[int], shared: int) -> None:
        """Append a sequence whose first ``shared`` tokens are those of the sequence before it."""
        above = self.paths[-1][:shared] if self.paths else []
        first, new = len(self), len(sequence) - shared
        if new:
            self.branches.append((first, above))
            self.tokens += sequence[shared:]
            self.depths += range(shared, len(sequence))
        self.paths.append([*above, *range(first, first + new)])
        self.members.append(member)

    def ancestry(self) -> Tensor:
        """Bool ``[T, T]``: whether the node of the row attends to the node of the column (itself among them)."""
        seen = torch.zeros(len(self), len(self), dtype=torch.bool)
        ends = [first for first, _ in self.branches[1:]] + [len(self)]
        for (first, above), end in zip(self.branches, ends, strict=True):
            seen[first:end, above] = True
            seen[first:end, first:end] = torch.ones(end - first, end - first, dtype=torch.bool).tril_()
        return seen


def build_trees(sequences: Sequence[list[int]], width: int, largest: int = LARGEST) -> list[Tree]:
    """Trees over all sequences, each as large as it pays.

    A sequence joins a tree if the states that it saves cost more than the pairs of tokens that it adds to the dense
    attention within the tree. Long completions of a short prompt therefore stay alone, and many answers to a long
    prompt become one tree.

    Args:
        sequences: token ids; none is empty.
        width: of the model's hidden states.
        largest: nodes of a tree of several sequences.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    state = PAIRS_PER_WIDTH * width
    trees: list[Tree] = []
    before: list[int] = []
    for i in order:
        sequence = sequences[i]
        shared = common(before, sequence) if trees else 0
        new = len(sequence) - shared
        together = new * (2 * len(trees[-1]) + new + state) if shared else 0
        full = not shared or len(trees[-1]) + new > largest
        if full or together >= len(sequence) * (len(sequence) + state):
            trees.append(Tree())
            shared = 0
        trees[-1].add(i, sequence, shared)
        before = sequence
    return trees


def common(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(k for k in range(n) if a[k] != b[k])


@dataclass
class TreeBatch:
    """Trees as one batch for a model.

    Attributes:
        tokens, positions: long ``[B, T]``, zero where no tree has a node.
        mask: bool ``[B, 1, T, T]``, True where attention is allowed.
        paths: per sequence the flat places (in ``B * T``) of its tokens.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    paths: list[list[int]]


def pack(trees: Sequence[Tree]) -> TreeBatch:
    """Trees as one batch, as wide as the largest: small trees share a row, so that little is padding."""
    longest = max(map(len, trees))
    rows: list[list[Tree]] = []
    free: list[int] = []
    for tree in sorted(trees, key=len, reverse=True):  # first fit, largest first
        row = first_with_room(free, len(tree))
        if row is None:
            row = len(rows)
            rows.append([])
            free.append(longest)
        rows[row].append(tree)
        free[row] -= len(tree)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    positions = torch.zeros_like(tokens)
    # A padding node attends to itself: a row without any would be NaN.
    mask = torch.eye(longest, dtype=torch.bool).repeat(len(rows), 1, 1)
    paths: list[list[int]] = [[] for _ in range(sum(len(t.members) for t in trees))]
    for b, row_of_trees in enumerate(rows):
        at = 0
        for tree in row_of_trees:
            end = at + len(tree)
            tokens[b, at:end] = torch.tensor(tree.tokens)
            positions[b, at:end] = torch.tensor(tree.depths)
            mask[b, at:end, at:end] = tree.ancestry()
            for member, path in zip(tree.members, tree.paths, strict=True):
                paths[member] = [b * longest + at + node for node in path]
            at = end
    return TreeBatch(tokens, positions, mask[:, None], paths)


def first_with_room(free: Sequence[int], needed: int) -> int | None:
    """The first row with room for ``needed`` more nodes; None where no row has it.

    Args:
        free: nodes that still fit into each row.
    """
    return next((r for r, room in enumerate(free) if room >= needed), None)


def states(model: PreTrainedModel, packed: TreeBatch) -> Tensor:
    """Last hidden states ``[B, T, D]`` of a packed under a causal LM that :func:`takes_trees`."""
    inner = model.base_model
    mask = packed.mask.to(model.device)
    if model.config._attn_implementation == "eager":
        low = torch.finfo(model.dtype).min
        mask = torch.zeros(mask.shape, dtype=model.dtype, device=model.device).masked_fill(~mask, low)  # type: ignore[assignment]
    output = inner(
        input_ids=packed.tokens.to(model.device),
        position_ids=packed.positions.to(model.device),
        attention_mask=mask,
        use_cache=False,
    )
    return output.last_hidden_state  # type: ignore[no-any-return]


def takes_trees(model: PreTrainedModel) -> bool:
    """Whether ``model`` computes the states of packed trees as it computes those of the sequences.

    Asked of the model itself, once: architectures with windows, recurrence, or positions that are not given from
    outside cannot, and kernels that know no mask do not.
    """
    known = getattr(model, "_selfreward_trees", None)
    if known is None:
        known = full_attention(model) and _reproduces(model)
        object.__setattr__(model, "_selfreward_trees", known)
    return bool(known)


def _reproduces(model: PreTrainedModel) -> bool:
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return False
    vocabulary = model.config.get_text_config().vocab_size
    tolerance = 5e-5 if model.dtype == torch.float32 else 2e-2
    sequences = [[k % vocabulary for k in ids] for ids in ((1, 2, 3, 4), (1, 2, 5, 6, 7), (1, 2, 5, 8))]
    tree = Tree()
    for i, shared in enumerate((0, 2, 3)):
        tree.add(i, sequences[i], shared)
    packed = pack([tree])
    with torch.no_grad():
        try:
            found = states(model, packed).flatten(0, 1)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
            return False
        for sequence, path in zip(sequences, packed.paths, strict=True):
            ids = torch.tensor([sequence], device=model.device)
            alone = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
            if not torch.allclose(found[path].float(), alone.float(), atol=tolerance, rtol=tolerance):
                return False
    return True
