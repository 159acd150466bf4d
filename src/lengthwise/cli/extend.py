"""`lengthwise extend`: a model folder that reads further, by a position scheme in its config."""

from __future__ import annotations

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli.merge import model_folder
from lengthwise.config.commands import ExtendSettings
from lengthwise.threads import threads_for

NEED_NO_TRAINING = ("yarn", "ntk", "dynamic")


def extend(settings: ExtendSettings) -> None:
    """Write the folder, and say what it is and what it was not trained for."""
    from transformers.utils import logging

    from lengthwise.context.positions.extend_folder import extend_folder

    logging.disable_progress_bar()
    with threads_for(model_folder(settings.model), wanted=settings.threads):
        report = extend_folder(settings, locate=model_folder)
    if settings.json_:
        print_json({**report.to_dict(), "out": str(settings.out)})
        return
    asked = settings.position
    if report.trained_factor is None and asked.eval_factor is None and asked.scheme not in NEED_NO_TRAINING:
        complain(
            "the model was not trained under this scheme; measure it with lengthwise evaluate-context", style="yellow"
        )
    out.print(f"scheme: {report.scheme}, factor {report.factor:g}; loads {report.loads}", markup=False)
    out.print(f"model: {settings.out}", soft_wrap=True, markup=False)
