"""A model as a server takes it: whole plain weights, a head of their own, a folder, and the command that serves it."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selfreward.errors import ConfigError
from selfreward.policy.architecture import causal_model
from selfreward.runtime import distributed
from selfreward.runtime.files import whole_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from selfreward.policy.policy import Policy

# Threads bound to cores stand in the trainer's way; the cache is in GiB.
ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


def server_state(model: torch.nn.Module) -> tuple[dict[str, Tensor], bool]:
    """Whole weights under their plain names, on the CPU, and whether the head is tied to the embeddings.

    Adapters are added to the weights they adapt, and a tied head gets weights of its own: a server that keeps head and
    embeddings apart must be told both. With sharded weights all processes come here together.
    """
    causal = causal_model(model)  # type: ignore[arg-type]
    state: dict[str, Tensor] = {}
    adapters: dict[str, Tensor] = {}
    for name, value in causal.state_dict().items():
        whole = distributed.whole(value).detach().cpu()
        if ".lora_" in name:
            adapters[name] = whole
        else:
            state[name.replace(".base_layer.", ".")] = whole
    for name, module in causal.named_modules():
        for adapter, scale in getattr(module, "scaling", {}).items() if hasattr(module, "base_layer") else ():
            down, up = (adapters.get(f"{name}.lora_{x}.{adapter}.weight") for x in "AB")
            if down is None or up is None:
                raise ConfigError(f"The adapter on {name} is not a plain LoRA of a linear layer; no server takes it.")
            delta = (up.float() @ down.float()) * scale
            weight = state[f"{name}.weight"]
            delta = delta.T if getattr(module, "fan_in_fan_out", False) else delta
            state[f"{name}.weight"] = (weight.float() + delta).to(weight.dtype)
    tied = is_tied(causal)
    if tied:
        embedding, head = (
            _name_of(causal, causal.get_input_embeddings()),
            _name_of(causal, causal.get_output_embeddings()),
        )
        state[f"{head}.weight"] = state[f"{embedding}.weight"]
    return state, tied


def is_tied(causal: PreTrainedModel) -> bool:
    head, embedding = causal.get_output_embeddings(), causal.get_input_embeddings()
    return head is not None and embedding is not None and head.weight is embedding.weight


def _name_of(model: torch.nn.Module, wanted: object) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def write_model(causal: PreTrainedModel, state: dict[str, Tensor], folder: Path) -> None:
    """Configuration and weights, with a head of its own, as a model folder."""
    from safetensors.torch import save_file

    config = copy.deepcopy(causal.config)
    for part in _unique([config, config.get_text_config()]):
        part.tie_word_embeddings = False
    config.architectures = [type(causal).__name__]
    config.save_pretrained(str(folder))
    if getattr(causal, "generation_config", None) is not None:
        causal.generation_config.save_pretrained(str(folder))
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # older transformers keep weights as they are in the files
        pass
    else:
        state = dict(revert_weight_conversion(causal, state))
    seen: set[int] = set()
    apart = {}
    for name, value in state.items():
        apart[name] = value.clone() if value.data_ptr() in seen else value.contiguous()
        seen.add(value.data_ptr())
    save_file(apart, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _unique(items: Iterable[Any]) -> list[Any]:
    return list({id(x): x for x in items}.values())


def export(policy: Policy, folder: Path) -> None:
    """A model folder for a server: plain weights, a head of their own, and the tokenizer."""
    state, _ = server_state(policy.model)
    with whole_folder(folder) as partial:
        write_model(causal_model(policy.model), state, partial)
        policy.tokenizer.save_pretrained(str(partial))


def server_command(
    policy: Policy, python: str, folder: Path, port: int, more: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """The command that serves ``folder`` by vLLM for training, and what its environment needs beside the usual.

    It listens on this machine only: whoever reaches a server in development mode can give it weights.
    """
    kind = str(next(policy.model.parameters()).dtype).removeprefix("torch.")
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder.absolute())]
    command += ["--served-model-name", "policy", "--host", "127.0.0.1", "--port", str(port), "--dtype", kind]
    # Sampling settings come from the request alone, and log-probabilities are those after the temperature.
    command += ["--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"]
    environment = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    if policy.device.type == "cpu":
        command.append("--enforce-eager")
        environment |= {k: v for k, v in ON_CPU.items() if k not in os.environ}
    return [*command, *more], environment
