"""Versions, devices and platform, for a report of a bug.

subliminal-jax env
"""

import json
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

RESUMES = False
PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy"),
    *("transformers", "tokenizers", "safetensors", "gguf", "datasets", "huggingface_hub", "jinja2"),
    *("jaxtyping", "tyro", "rich", "matplotlib"),
)
OPTIONAL_PACKAGES = (
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu", "torch", "peft"),
    *("steering-vectors", "py3langid", "tensorboard", "wandb"),
)
# Their names alone are told where they are set: values may hold paths of the user.
VARIABLES = ("JAX_", "XLA_", "CUDA_VISIBLE_DEVICES", "SUBLIMINAL_JAX_", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class Config:
    """How to print it.

    Attributes:
      json: print JSON in place of lines.
    """

    json: bool = False


def main(config: Config) -> None:
    """Print the lines, or JSON. Nothing in them names a user, a host or a path."""
    found = describe_environment()
    if config.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {version}" for key, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        print(f"{name}: {value if value != '' else 'none'}")


def describe_environment() -> dict[str, Any]:
    """What `main` prints, as plain JSON. Devices are those of JAX, which this starts."""
    import jax

    from subliminal_jax.memory import device_bytes, host_bytes, show_bytes

    versions = {name: _version(name) or "missing" for name in PACKAGES}
    extras = {name: v for name in OPTIONAL_PACKAGES if (v := _version(name))}
    devices = [f"{d.platform} {d.id}: {d.device_kind}" for d in jax.local_devices()]
    return {
        "subliminal-jax": _version("subliminal-jax") or "not installed",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "memory": show_bytes(host_bytes()),
        "devices": devices,
        "device memory": show_bytes(device_bytes()),
        "backend": jax.default_backend(),
        "packages": versions,
        "extras": extras,
        "variables set": sorted(name for name in os.environ if name.startswith(VARIABLES)),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
