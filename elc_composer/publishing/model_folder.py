"""Writes the files of a transformers folder: weights, config, tokenizer, code, licence, picture and model card."""

from __future__ import annotations

import math
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

from elc_composer.analyze.pruning import shares_by_layer
from elc_composer.common.errors import DataError
from elc_composer.common.files import write_text
from elc_composer.figures.heatmap import draw_heatmap
from elc_composer.model import TASK_MODELS, ElcConfig, ElcModel
from elc_composer.prepared.tokenizer_files import load_tokenizer, save_tokenizer
from elc_composer.publishing.model_card import Card, render_card
from elc_composer.publishing.placing import make_readable, put_in_place, staged
from elc_composer.publishing.self_check import check_folders, expect

CODE = sorted(
    f.name for f in files("elc_composer.model").iterdir() if f.name.endswith(".py") and f.name != "__init__.py"
)
AUTO_MAP = {
    "AutoConfig": "configuration_elc.ElcConfig",
    "AutoModel": "modeling_elc.ElcModel",
    "AutoModelForMaskedLM": "modeling_elc.ElcForMaskedLM",
    **{name: f"task_models.{model.__name__}" for name, model in TASK_MODELS.items()},
}
PICTURE = "layer_weights.png"
LICENSE = "LICENSE"


def export_model(
    model: ElcModel, tokenizer: Path | None, out: Path, card: Card | None = None, *, check: bool = False
) -> Path:
    """Write a transformers folder: model.safetensors, config.json, tokenizer, code, LICENSE, picture and model card.

    The files are written beside `out` and put in place together at the end; if anything fails, `out` stays as it was.

    Args:
        model: any dtype and device; whole, not sharded.
        tokenizer: a tokenizer.json, a folder that holds one, or None to write no tokenizer.
        out: folder to write; files of the same names are replaced.
        card: what the model card says beyond the model's shape; by default nothing.
        check: load the folder in a fresh process and compare its outputs with the model's (6 to 8 seconds).

    Returns:
        `out`.

    Raises:
        DataError: the tokenizer cannot be read, its vocabulary does not have the model's size, or the check fails.
    """
    with staged(out) as staging:
        write_model(model, tokenizer, staging, card or Card(location=str(out)))
        if check:
            check_folders([expect(model, staging)])
        put_in_place(staging, out)
    return out


def write_model(model: ElcModel, tokenizer: Path | None, out: Path, card: Card) -> None:
    """Write the files of a transformers folder into the existing folder `out`; see `export_model`.

    Equal arguments give equal bytes.
    """
    config = ElcConfig.from_dict(model.config.to_dict())
    config.kernels = "auto"
    # transformers before 4.56 reads only the older name.
    setattr(config, "dtype" if hasattr(config, "dtype") else "torch_dtype", model.dtype)
    if tokenizer is not None:
        write_tokenizer(tokenizer, config, out)
    model.save_pretrained(out)
    config.auto_map = AUTO_MAP
    config.architectures = [type(model).__name__]
    config.save_pretrained(out)
    for name in CODE:
        write_text(out / name, (files("elc_composer.model") / name).read_text(encoding="utf-8"))
    licence = license_text()
    if licence:
        write_text(out / LICENSE, licence)
    shares = shares_by_layer(model)
    drawn = bool(shares) and all(math.isfinite(share) for row in shares.values() for share in row)
    if drawn:
        draw_heatmap(shares, out / PICTURE, "What each layer reads")
    write_text(out / "README.md", render_card(model, card, picture=PICTURE if drawn else None, licence=bool(licence)))
    make_readable(out)


def write_tokenizer(source: Path, config: ElcConfig, out: Path) -> None:
    """Write a tokenizer folder with the model's longest sequence; see `save_tokenizer`.

    Raises:
        DataError: the tokenizer cannot be read, or its vocabulary does not have the model's size.
    """
    tokenizer = load_tokenizer(source)
    size = tokenizer.get_vocab_size()
    if size != config.vocab_size:
        raise DataError(
            f"{source} has {size} entries, the model {config.vocab_size}; give the tokenizer that it was trained with"
        )
    save_tokenizer(tokenizer, out, config.max_position_embeddings)


def license_text() -> str | None:
    """This project's licence, which the copied code is under; None where neither checkout nor installation has it."""
    checkout = Path(__file__).resolve().parents[2] / LICENSE
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    try:
        listed = distribution("elc-composer").files or []
    except PackageNotFoundError:
        return None
    found = next((Path(str(file.locate())) for file in listed if file.name == LICENSE), None)
    return found.read_text(encoding="utf-8") if found and found.is_file() else None
