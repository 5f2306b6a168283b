"""The page's HTML, as jinja2 templates that escape whatever they are given."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from subliminal_jax.reporting.texts import page_text


def _show(value: Any) -> Any:
    """Texts of others without controls; Markup comes from these templates."""
    return page_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


TEMPLATES = Environment(
    loader=PackageLoader("subliminal_jax.reporting.templates", ""),
    autoescape=True,
    finalize=_show,
    undefined=StrictUndefined,
    trim_blocks=False,
)


def read_template(name: str) -> str:
    """The text of a file beside the templates."""
    return (files(__name__) / name).read_text(encoding="utf-8")
