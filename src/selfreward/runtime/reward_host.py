"""The child process of :class:`selfreward.runtime.reward_process.RewardProcess`: ``reward_host.py FILE.py [FUNCTION]``.

One JSON object per line: calls come in on standard input, answers go out on what was standard output. It
imports the user's file and nothing of this package.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the user's prints must not mix with answers
    calls = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nor may input() eat calls
    path, wanted = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "")
    sys.path.insert(0, os.path.dirname(path))

    def answer(**found: Any) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    try:
        name, function = find(path, wanted)
    except Exception as error:
        answer(error=said(error, path, "importing it"))
        return
    answer(value={"name": name, **takes(function)})
    for line in calls:
        try:
            value = function(**json.loads(line))
        except Exception as error:
            answer(error=said(error, path, f"{name} was called"))
            continue
        try:
            answer(value=[None if v is None else float(v) for v in value])
        except (TypeError, ValueError) as error:
            problem = f"{type(value).__name__} that is not a list of numbers ({error})"
            answer(error=f"{path}:{name} returned a {problem}; it must return one number or None per completion.")


def find(path: str, wanted: str) -> tuple[str, Callable[..., Any]]:
    spec = importlib.util.spec_from_file_location("selfreward_user_reward", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    own = {
        n: f
        for n, f in vars(module).items()
        if callable(f) and not n.startswith("_") and getattr(f, "__module__", None) == spec.name
    }
    if wanted:
        if not callable(getattr(module, wanted, None)):
            raise LookupError(f"there is no function {wanted!r} in it; it has {', '.join(own) or 'none'}")
        return wanted, getattr(module, wanted)
    if len(own) != 1:
        raise LookupError(
            f"it has {len(own)} public functions ({', '.join(own) or 'none'}); name one: FILE.py:FUNCTION"
        )
    return next(iter(own.items()))


def takes(function: Callable[..., Any]) -> dict[str, Any]:
    """The names that a call must have, may have, and whether any other is taken as well."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function that is not written in Python
        return {"required": [], "optional": [], "others": True}
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {
        "required": [p.name for p in named if p.default is p.empty],
        "optional": [p.name for p in named if p.default is not p.empty],
        "others": any(p.kind is p.VAR_KEYWORD for p in parameters),
    }


def said(error: Exception, path: str, doing: str) -> str:
    """One sentence with the innermost place in the user's file."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    place = path if line is None else f"{path}, line {line}"
    return f"{place}: {type(error).__name__}: {str(error).strip().rstrip('.')}, when {doing}."


if __name__ == "__main__":
    main()
