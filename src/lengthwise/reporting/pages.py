"""HTML pages from the package's templates: one file each, without external requests."""

from __future__ import annotations


def render(template: str, **values: object) -> str:
    """The text of a page; all values are escaped, and one that the template wants but does not get raises."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lengthwise.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
