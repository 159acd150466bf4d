"""HTML pages from the package's templates: one file each, without external requests."""

from __future__ import annotations

from lengthwise.reporting.glossary import gloss


def render(template: str, **values: object) -> str:
    """The text of a page; all values are escaped, and one that the template wants but does not get raises.

    The filter `gloss` explains words of the field.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lengthwise.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["gloss"] = gloss
    return environment.get_template(template).render(**values)
