"""From a model specification to a :class:`~selfreward.policy.policy.Policy`. Only safetensors, no remote code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfreward.errors import ConfigError, ModelError, UserError, nearest
from selfreward.policy.policy import Policy
from selfreward.runtime.at_hand import at_hand, is_here

DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_policy(
    spec: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    lora_rank: int = 0,
    lora_alpha: float | None = None,
    lora_targets: str = "all-linear",
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
    chat: str = "auto",
) -> Policy:
    """Load a model folder, a hub id, ``embedded:NAME``, or a folder with a PEFT adapter; an object at hand is returned.

    Args:
        dtype: ``auto`` is float32 on a CPU and bfloat16 on an accelerator.
        lora_rank: above 0 trains a fresh LoRA of this rank and leaves the weights alone.
        lora_targets: comma-separated module names, or PEFT's ``all-linear``.

    Raises:
        ModelError: the folder is missing, broken, or holds only pickled weights.
        ConfigError: an option is out of range.
    """
    import torch

    if is_here(spec):
        if lora_rank:
            raise ConfigError(
                "lora_rank belongs to a model that is loaded here; wrap a loaded one before handing it over."
            )
        here: Policy = at_hand(spec, "model")
        return here
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}.{nearest(dtype, DTYPES)}")
    place = pick_device(device)
    kind = ("float32" if place.type == "cpu" else "bfloat16") if dtype == "auto" else dtype
    source = resolve(spec)
    if (Path(source) / "adapter_config.json").is_file():
        base = _adapter_base(Path(source))
        policy = load_policy(base, dtype=dtype, device=device, trust_remote_code=trust_remote_code, chat=chat)
        peft = _peft()
        model = peft.PeftModel.from_pretrained(policy.model, source, is_trainable=True)
        return Policy(model, policy.tokenizer, chat=chat)
    check_model(spec)
    model, tokenizer = _load(source, getattr(torch, kind), trust_remote_code)
    model.to(place)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    if gradient_checkpointing:
        _recompute(model)
    if lora_rank < 0:
        raise ConfigError(f"lora_rank is {lora_rank}; it must be 0 (train all weights) or more.")
    if lora_rank:
        if gradient_checkpointing:
            model.enable_input_require_grads()
        model = _with_lora(model, lora_rank, lora_alpha or 2 * lora_rank, lora_targets)
    policy = Policy(model, tokenizer, chat=chat)
    _try(policy, spec)
    return policy


def _recompute(model: Any) -> None:
    # Newer transformers call it activation checkpointing and warn about the old name.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def _with_lora(model: Any, rank: int, alpha: float, targets: str) -> Any:
    peft = _peft()
    modules = targets if targets == "all-linear" else [t.strip() for t in targets.split(",")]
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, task_type="CAUSAL_LM")
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"lora_targets is {targets!r}: {error}") from None


def _try(policy: Policy, spec: str) -> None:
    """One token through tokenizer and model: what loads may still not run.

    Raises:
        ModelError: saying what is wrong.
    """
    import torch

    from selfreward.policy.architecture import causal_model

    try:
        ends = policy.end_tokens
        tokens = policy.encode_text("1")[:8] or ends
        size = len(next(policy.model.get_input_embeddings().parameters()))
        outside = [t for t in [*tokens, *ends] if not 0 <= t < size]
        if not outside and ends:
            with torch.inference_mode():
                causal_model(policy.model)(input_ids=torch.tensor([tokens], device=policy.device))
    except UserError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines() or [""]
        raise ModelError(f"{spec} loads but does not run: {type(error).__name__}: {first[0][:300]}") from error
    if not ends:
        raise ModelError(f"{spec}: neither the tokenizer nor the generation config names an end-of-sequence token.")
    if outside:
        raise ModelError(
            f"{spec}: the tokenizer gives id {outside[0]}, but the model has {size} embeddings; they do not belong "
            "together."
        )


def pick_device(device: str) -> Any:
    """``auto`` prefers CUDA, then Apple's GPU, then the CPU."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device is {device!r}; use auto, cpu, cuda, cuda:N or mps.") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda' but this torch sees no GPU. `selfreward doctor` says why.")
    return chosen


def resolve(spec: str) -> str:
    """A local folder for ``embedded:NAME`` and existing paths, else the hub id unchanged."""
    if spec.startswith("embedded:"):
        from selfreward.data.schemes import base_path

        return str(base_path(spec.removeprefix("embedded:")))
    path = Path(spec).expanduser()
    if path.is_file():
        raise ModelError(f"{spec} is a file; --model takes a folder with config.json and *.safetensors, or a hub id.")
    if path.is_dir():
        return str(path)
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1 or not spec.strip():
        parent = path.parent if path.parent.is_dir() else Path(".")
        near = nearest(path.name, [p.name for p in parent.iterdir() if p.is_dir()][:50])
        raise ModelError(f"Model folder {spec} does not exist.{near}")
    return spec


def check_model(spec: str) -> None:
    """Find what is wrong with a model folder without loading it; a hub id passes.

    Raises:
        ModelError: as :func:`load_policy`.
    """
    if is_here(spec):
        return
    path = Path(resolve(spec))
    if not path.is_dir() or (path / "adapter_config.json").is_file():
        return
    config = path / "config.json"
    if not config.is_file():
        raise ModelError(f"{path} has no config.json: it is not a Hugging Face model folder.")
    try:
        json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{config} is not readable JSON: {error}") from None
    if list(path.glob("*.safetensors")):
        return
    pickled = sorted(p.name for ext in ("*.bin", "*.pt", "*.pth", "*.pkl") for p in path.glob(ext))
    if pickled:
        raise ModelError(
            f"{path} holds only pickled weights ({', '.join(pickled[:3])}), which can run code when loaded. "
            "Convert them where you trust them: model.save_pretrained(FOLDER) writes safetensors."
        )
    raise ModelError(f"{path} has a config.json but no *.safetensors weights.")


def _load(source: str, dtype: Any, trust_remote_code: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
        model, info = loaded
    except UserError:
        raise
    except Exception as error:
        # transformers raises a dozen different types here; to the user they mean one thing.
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"Cannot load the model {source!r}: {first[0]}") from error
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        raise ModelError(
            f"{source}: {len(missing)} weights are missing from the checkpoint (for example {missing[0]}); "
            "training would start from random numbers there."
        )
    return model, tokenizer


def _adapter_base(folder: Path) -> str:
    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, OSError) as error:
        raise ModelError(f"{folder}/adapter_config.json does not name its base model: {error}") from None
    if not base:
        raise ModelError(f"{folder}/adapter_config.json does not name its base model.")
    return str(base)


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ConfigError("LoRA needs the package peft: pip install 'selfreward[lora]'.") from None
    return peft
