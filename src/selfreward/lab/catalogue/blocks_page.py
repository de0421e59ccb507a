"""``docs/blocks.md``: how long every recipe is and which blocks it wires, read from its imports."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from selfreward.recipes.registry import CONTROLS, RECIPES, recipe_class

HEAD = """# Recipes and their blocks

Made by `selfreward systems --blocks --markdown > docs/blocks.md` from the imports of every recipe's file; nothing here
is written by hand. Left out is what every recipe touches: types, errors, the policy and how to sample. `recipes.grpo`
stands for the GRPO learner that most recipes inherit (`learn_from`); another `recipes.*` for a recipe or a shared
base that is built on.

"""
# What every recipe touches is no choice of its own.
PLUMBING = frozenset({"types", "errors", "policy.policy", "policy.sampling.params", "rollouts.run", "runtime.seeding"})
BASES = ("recipes.base", "recipes.grpo")
PACKAGE = Path(__file__).parents[2]


@dataclass
class Wiring:
    """One recipe file.

    Attributes:
        recipes: names of the recipes in it.
        ids: ids of the systems that they are.
        lines: of the whole file; ``code`` without blank lines, comments and docstrings.
        blocks: module (without ``selfreward.``) to the names used of it.
    """

    module: str
    recipes: list[str]
    ids: list[str]
    lines: int
    code: int
    blocks: dict[str, list[str]] = field(default_factory=dict)

    @property
    def control(self) -> bool:
        return all(name in CONTROLS for name in self.recipes)


def wirings() -> list[Wiring]:
    """Every registered recipe file, in the order of the registry."""
    modules: dict[str, list[str]] = {}
    for name, target in RECIPES.items():
        modules.setdefault(target, []).append(name)
    found = []
    for module, names in modules.items():
        source = (PACKAGE / (module.removeprefix("selfreward.").replace(".", "/") + ".py")).read_text(encoding="utf-8")
        ids = sorted({i for i in (recipe_class(n).system_id for n in names) if i})
        short = module.removeprefix("selfreward.recipes.").removeprefix("selfreward.")
        found.append(Wiring(short, names, ids, len(source.splitlines()), code_lines(source), blocks_of(source)))
    return found


def blocks_of(source: str) -> dict[str, list[str]]:
    """Blocks that a source imports at run time, and the names it takes from each.

    Example: ``from selfreward.signals.vote import vote`` gives ``{"signals.vote": ["vote"]}``. Imports for type
    checking alone do not count.
    """
    tree = ast.parse(source)
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in typing_only:
            room, _, block = (node.module or "").partition(".")
            if room != "selfreward" or block in PLUMBING or block in BASES:
                continue
            for alias in node.names:
                module, name = (block, alias.name) if block else (alias.name, "")
                # ``from selfreward.signals.registry import rules`` takes a module, not a name of one.
                if block and (PACKAGE / block.replace(".", "/") / f"{alias.name}.py").is_file():
                    module, name = f"{block}.{alias.name}", ""
                names = found.setdefault(module, [])
                if name and name not in names:
                    names.append(name)
    if any(isinstance(n, ast.Attribute) and n.attr == "learn_from" for n in ast.walk(tree)):
        found["recipes.grpo"] = ["learn_from"]
    return dict(sorted(found.items()))


def code_lines(source: str) -> int:
    """Lines that are neither blank, nor comment, nor docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            documented |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for i, line in lines if i not in documented and line.strip() and not line.lstrip().startswith("#"))


def blocks_page(found: list[Wiring]) -> str:
    """Markdown: a row per recipe file, then how many recipe files use each block."""
    systems = [w for w in found if w.ids]
    summary = (
        f"{len(found)} files hold {sum(len(w.recipes) for w in found)} recipes. The median file of a published system "
        f"has {median(w.lines for w in systems):g} lines, of which {median(w.code for w in systems):g} are code.\n"
    )
    rows = ["| recipe | id | lines | code | blocks |", "|---|---|---|---|---|"]
    for w in sorted(found, key=lambda w: (not w.ids, w.ids, w.module)):
        names = ", ".join(f"`{n}`" for n in w.recipes)
        rows.append(f"| {names} | {', '.join(w.ids) or '-'} | {w.lines} | {w.code} | {_wired(w.blocks)} |")
    used = Counter(block for w in found for block in w.blocks)
    usage = ["| block | recipe files |", "|---|---|"]
    usage += [f"| `{block}` | {n} |" for block, n in sorted(used.items(), key=lambda item: (-item[1], item[0]))]
    return HEAD + summary + "\n" + "\n".join(rows) + "\n\n## How often each block is used\n\n" + "\n".join(usage) + "\n"


def _wired(blocks: Mapping[str, list[str]]) -> str:
    return "; ".join(f"`{block}`" + (f" {', '.join(names)}" if names else "") for block, names in blocks.items()) or "-"
