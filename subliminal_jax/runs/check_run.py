"""What refuses a run before anything that computes is imported."""

from collections.abc import Mapping
from typing import Any

from subliminal_jax.bounds import as_flag
from subliminal_jax.effects import check_effects, defaults
from subliminal_jax.runs.checks import check_settings
from subliminal_jax.runs.judging import check_judge
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import RunSettings


def check_given(
    settings: RunSettings, presets: Mapping[str, Mapping[str, Any]], command: str = ""
) -> None:
    """Raises InputError for settings that cannot be, whatever the model: a judge that cannot be
    asked, values out of bounds or that do not go together (`check_settings`), and values beside the
    preset's that have no effect."""
    check_judge(settings, command)  # first: no other message may repeat what it refuses
    check_settings(settings)
    preset = presets.get(settings.preset, {})
    check_effects(settings, {**defaults(type(settings)), **preset}, as_flag)


def check_models(settings: RunSettings) -> None:
    """Raises InputError for models that cannot be loaded or that the settings do not fit; a
    finished run is not checked again."""
    if settings.overwrite or not RunFolder.is_finished(settings.out):
        settings.check_models()  # now: overwriting removes another run
