"""XLA's plain code generation: on a CPU it halves the time to compile, which tests mostly do."""

import os
from importlib.metadata import version

# XLA ends the process at a flag that it does not know, so only versions on which these were tried
# get them. A program in one part is compiled by one thread, but is less work than in many.
_PLAIN = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
_PARTS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
_FLAGS = {"0.10": f"{_PLAIN} {_PARTS}", "0.12": _PLAIN}


def use_plain_code() -> None:
    """Set XLA_FLAGS for this process and those that it starts; call it before JAX is imported.
    Whoever sets XLA_FLAGS keeps what they set."""
    if flags := _FLAGS.get(".".join(version("jaxlib").split(".")[:2])):
        os.environ.setdefault("XLA_FLAGS", flags)
