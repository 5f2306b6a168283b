"""The page's HTML, as jinja2 templates that escape whatever they are given."""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

TEMPLATES = Environment(
    loader=PackageLoader("subliminal_jax.reporting.templates", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=False,
)


def read_template(name: str) -> str:
    """The text of a file beside the templates."""
    return (files(__name__) / name).read_text(encoding="utf-8")
