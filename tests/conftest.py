"""What each test runs under: checked array shapes, no silent rank promotion, fixed examples."""

import gc
import os
import re
from collections.abc import Callable
from pathlib import Path

from tests.plain_code import use_plain_code

use_plain_code()

import jax
import pytest
from hypothesis import HealthCheck, settings

from tests import typechecker

typechecker.install()

from tests.program_cache import share_programs

share_programs()
jax.config.update("jax_numpy_rank_promotion", "raise")
if jax.default_backend() != "cpu":  # where factors of float32 products are rounded to ten bits
    jax.config.update("jax_default_matmul_precision", "highest")
# What is imported stays, and tracing makes many objects: without these, collections walk them all.
gc.freeze()
gc.set_threshold(20_000, 20, 20)

settings.register_profile(
    "fixed",
    max_examples=10,
    deadline=None,  # the first example compiles
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("thorough", parent=settings.get_profile("fixed"), max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


# Files that compile or train for more than a few seconds; `make test-fast` leaves them out.
SLOW_FILES = {
    "tests/audit/test_audit.py",
    "tests/audit/test_methods.py",
    "tests/benchmarks/test_accelerator_cases.py",
    "tests/benchmarks/test_harness.py",
    "tests/benchmarks/test_lowered.py",
    "tests/commands/test_audit.py",
    "tests/commands/test_bench.py",
    "tests/commands/test_export.py",
    "tests/commands/test_extract.py",
    "tests/commands/test_report.py",
    "tests/commands/test_steer.py",
    "tests/commands/test_train_shipped_model.py",
    "tests/data/test_corpus.py",
    "tests/data/test_teachers.py",
    "tests/diagnostics/test_activation_gradients.py",
    "tests/diagnostics/test_alignment.py",
    "tests/diagnostics/test_mixed_precision.py",
    "tests/diagnostics/test_parameter_space.py",
    "tests/evaluation/measures/test_measures.py",
    "tests/evaluation/test_elicitation.py",
    "tests/evaluation/test_likelihood.py",
    "tests/evaluation/test_preference_measure.py",
    "tests/experiments/distil_vectors/test_distillation.py",
    "tests/experiments/paraphrase_transmission/test_paraphrase_sets.py",
    "tests/experiments/student_vector/test_causal.py",
    "tests/experiments/test_bad_input.py",
    "tests/fuzz/test_fuzz.py",
    "tests/models/test_answer_tokens.py",
    "tests/models/test_config_parity.py",
    "tests/models/test_finite.py",
    "tests/models/test_forward.py",
    "tests/models/test_hub.py",
    "tests/models/test_nnx.py",
    "tests/models/test_parity.py",
    "tests/models/test_sampling.py",
    "tests/models/test_sampling_parity.py",
    "tests/models/test_template_limits.py",
    "tests/runs/test_guards.py",
    "tests/runs/test_kept_students.py",
    "tests/selection/test_resume.py",
    "tests/selection/test_scoring.py",
    "tests/steering/test_activations.py",
    "tests/steering/test_propensity.py",
    "tests/steering/test_reliability_parity.py",
    "tests/test_api.py",
    "tests/test_mesh.py",
    "tests/training/test_adapter_config.py",
    "tests/training/test_adapters.py",
    "tests/training/test_adapters_io.py",
    "tests/training/test_checkpoints.py",
    "tests/training/test_guards.py",
    "tests/training/test_layout.py",
    "tests/training/test_log_probs.py",
    "tests/training/test_losses.py",
    "tests/training/test_mixed_precision.py",
    "tests/training/test_open_optimizers.py",
    "tests/training/test_optimizer_references.py",
    "tests/training/test_optimizers.py",
    "tests/training/test_preference.py",
    "tests/training/test_separating_rules.py",
    "tests/training/test_sweep.py",
}

# What a GPU computes in another way than a CPU; `make test-gpu` runs these there.
GPU_FILES = {
    "tests/diagnostics/test_activation_gradients.py",
    "tests/diagnostics/test_alignment.py",
    "tests/diagnostics/test_mixed_precision.py",
    "tests/models/test_forward.py",
    "tests/models/test_sampling.py",
    "tests/training/test_forms.py",
    "tests/training/test_memory_plan.py",
    "tests/training/test_mixed_precision.py",
    "tests/training/test_sweep.py",
}


def is_slow(item: pytest.Item) -> bool:
    file = item.path.relative_to(item.config.rootpath)
    return str(file) in SLOW_FILES or file.match("tests/experiments/*/test_experiment.py")


def pytest_collection_modifyitems(config, items):
    """Mark the files of `SLOW_FILES` and every experiment's whole run as slow. With several
    processes they run first: a long file at the end would leave the others idle."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not is_slow(item))
    for item in items:
        if is_slow(item):
            item.add_marker(pytest.mark.slow)
        if str(item.path.relative_to(item.config.rootpath)) in GPU_FILES:
            item.add_marker(pytest.mark.gpu)


# A process that holds the programs of the whole suite runs out of memory maps (65,530 on Linux),
# and XLA then ends it with a segmentation fault.
MANY_MAPS = 20_000
# What a file replaces that may change what is compiled: attributes and entries, but for those of
# what compiles nothing. After a file that replaces no such thing, others go on with its programs.
REPLACES = re.compile(
    r"""\b(?:set|del)(?:attr|item)\((?!\s*"?(?:"""
    "sys|os|builtins|torch|datasets|huggingface_hub|_entries|adapters_io|audit_rows|carriers|"
    "Checkpoints|evidence|experiment_module|extract|harness|hub|loggers|packaged|progress|reader|"
    "runner|sampled_sets|sampling_plan|settings|speed|teacher_weights|TemplateRenderer|templates|"
    r"""subliminal_jax\.(?:commands|experiments)|module, "(?:call|encode_chats))\b)"""
)
# What counts programs, which those of the files before would spare.
COUNTS = re.compile("count_compilations|_cache_size")


@pytest.fixture(autouse=True, scope="module")
def _release_programs(request):
    """Drop compiled programs where there are many, around files that replace what is compiled, and
    before those that count programs; the others go on with those of the files before. To drop
    programs takes seconds, and more to make them again."""
    text = request.path.read_text(encoding="utf-8")
    replaces = REPLACES.search(text)
    if replaces or COUNTS.search(text):
        jax.clear_caches()
    yield
    if replaces or count_maps() > MANY_MAPS:
        jax.clear_caches()


def count_maps() -> int:
    """The memory maps of this process; of a system that does not say, more than `MANY_MAPS`."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return MANY_MAPS + 1


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and data, `$SUBLIMINAL_JAX_DATA`; skips where there is none."""
    folder = os.environ.get("SUBLIMINAL_JAX_DATA")
    if not folder:
        pytest.skip("needs real data: SUBLIMINAL_JAX_DATA is not set")
    if not Path(folder).is_dir():
        pytest.skip(f"needs real data: {folder} is not a folder (set SUBLIMINAL_JAX_DATA)")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def shared_path(shared_data: Path) -> Callable[..., Path]:
    """A file or folder in that folder, by its parts; skips, and says which, where it is missing."""

    def path(*parts: str) -> Path:
        place = shared_data.joinpath(*parts)
        if not place.exists():
            pytest.skip(f"needs real data: {place} is not there (set SUBLIMINAL_JAX_DATA)")
        return place

    return path
