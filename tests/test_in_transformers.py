"""An exported model in the hands of transformers: each item runs with transformers 4 and 5 (`transformers5`)."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    pipeline,
)

from elc_composer.common.errors import ConfigError
from elc_composer.evaluation.models import load_model_and_tokenizer
from elc_composer.export import export_model
from elc_composer.model import (
    MIXING_RULES,
    TASK_MODELS,
    ElcConfig,
    ElcForMaskedLM,
    ElcForMultipleChoice,
    ElcForSequenceClassification,
    ElcModel,
)
from elc_composer.prepared.tokenizer_files import SPECIAL_TOKENS
from tests.model.small_models import SHAPE

pytestmark = pytest.mark.transformers5
KINDS: dict[str, type[Any]] = {"AutoModel": ElcModel, "AutoModelForMaskedLM": ElcForMaskedLM, **TASK_MODELS}
IDS = torch.arange(7, 47).view(4, 10)
OWN = {ElcModel: set(), ElcForMaskedLM: {"classifier"}, **{kind: {"head"} for kind in TASK_MODELS.values()}}
WORDS = ("Ġthe", "Ġcat", "Ġsees", "Ġdog")


def config(**fields: Any) -> ElcConfig:
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return ElcConfig(**{"layer_mixing": "zero", **rates, **SHAPE, "vocab_size": 300, **fields})


def make(kind: type[Any] = ElcForMaskedLM, **fields: Any) -> Any:
    torch.manual_seed(0)
    return kind(config(**fields)).eval()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words and bytes, 300 entries."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*SPECIAL_TOKENS, *letters, *WORDS]
    entries += [f"unused{number}" for number in range(300 - len(entries))]
    made = Tokenizer(models.WordLevel({entry: number for number, entry in enumerate(entries)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL_TOKENS))
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.fixture(scope="module")
def folders(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An export of every class."""
    out = tmp_path_factory.mktemp("exports")
    return {
        name: export_model(make(kind, num_labels=3), tokenizer, out / f"of_{kind.__name__}")
        for name, kind in KINDS.items()
    }


def load(name: str, folder: Path, **arguments: Any) -> Any:
    return getattr(transformers, name).from_pretrained(folder, trust_remote_code=True, **arguments)


def ids_for(model: Any) -> Tensor:
    return IDS.view(2, 2, 10) if type(model).__name__ == ElcForMultipleChoice.__name__ else IDS


@pytest.mark.parametrize("name", KINDS)
def test_each_class_loads_through_its_auto_class(name: str, folders: dict[str, Path]) -> None:
    model = load(name, folders[name]).eval()
    own = make(KINDS[name], num_labels=3)
    assert type(model) is not type(own)
    torch.testing.assert_close(model(ids_for(model))[0], own(ids_for(own))[0])


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_every_pair_of_classes(source: str, target: str, folders: dict[str, Path]) -> None:
    """The encoder arrives whole; only a head that the file lacks is new, and is reported."""
    given, kind = make(KINDS[source], num_labels=3), KINDS[target]
    fields: dict[str, Any] = {"num_labels": 3}
    model, report = kind.from_pretrained(folders[source], output_loading_info=True, ignore_mismatched_sizes=True)
    encoder = {n for n, _ in given.named_parameters() if n.split(".")[0] not in ("head", "classifier")}
    assert len(encoder) == len(list(ElcModel(config(**fields)).parameters()))
    loaded = dict(model.named_parameters())
    for name in encoder:
        torch.testing.assert_close(loaded[name], given.get_parameter(name))
    new = OWN[kind] - OWN[KINDS[source]]
    # The masked language model's last matrix is the word embedding, which the file has.
    tied = {"classifier.nonlinearity.5.weight"}
    expected = {n for n, _ in model.named_parameters() if n.split(".")[0] in new} - tied
    assert set(report["missing_keys"]) - tied == expected
    assert not report["unexpected_keys"]


def test_dtype_is_written_and_used(folders: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    folder = export_model(make().to(torch.bfloat16), tokenizer, tmp_path / "half")
    assert '"dtype": "bfloat16"' in (folder / "config.json").read_text()
    assert load("AutoModelForMaskedLM", folder, dtype="auto").dtype == torch.bfloat16
    assert load("AutoModelForMaskedLM", folders["AutoModelForMaskedLM"], dtype="auto").dtype == torch.float32


def test_files_have_the_mode_of_new_files(tokenizer: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        folder = export_model(make(), tokenizer, tmp_path / "out")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}


def test_attention_implementation_chooses_kernels(folders: dict[str, Path]) -> None:
    folder = folders["AutoModelForMaskedLM"]
    default = load("AutoModelForMaskedLM", folder)
    assert default.transformer.layers[0].kernels == default.config.kernels == "auto"
    assert type(default)(default.config).config.kernels == "auto"
    for name, kernels in (("sdpa", "torch"), ("eager", "eager")):
        model = load("AutoModelForMaskedLM", folder, attn_implementation=name)
        default.set_attn_implementation(name)
        for each in (model, default):
            assert each.config.kernels == each.transformer.layers[0].attention.kernels == kernels
        torch.testing.assert_close(model.eval()(IDS).logits, default.eval()(IDS).logits)
    with pytest.raises(ValueError):
        load("AutoModelForMaskedLM", folder, attn_implementation="flash_attention_2")
    with pytest.raises(ValueError, match="sdpa or eager"):
        default.set_attn_implementation("flash")


class Sizes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that the backward pass keeps."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        super().__init__(self.pack, lambda tensor: tensor)

    def pack(self, tensor: Tensor) -> Tensor:
        self.kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor


@pytest.mark.parametrize("kernels", ["eager", "torch"])
@pytest.mark.parametrize("variant", MIXING_RULES)
def test_gradient_checkpointing(variant: str, kernels: str) -> None:
    """Dropout included, gradients are equal; less is kept for the backward pass."""
    fields = {"layer_mixing": variant, "kernels": kernels}
    rates = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    found = []
    for checkpointing in (False, True):
        model = make(**fields, **rates).double().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.is_gradient_checkpointing
        torch.manual_seed(1)
        sizes = Sizes()
        with sizes:
            loss = model(IDS, labels=IDS, masked_positions=torch.tensor([1, 5, 30])).loss
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((loss, gradients, sum(sizes.kept.values())))
    (loss, plain, much), (same_loss, recomputed, little) = found
    torch.testing.assert_close(same_loss, loss)
    assert recomputed.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient)
    assert little < 0.7 * much


def test_reentrant_checkpointing_is_refused() -> None:
    with pytest.raises(ValueError, match="use_reentrant"):
        make().gradient_checkpointing_enable({"use_reentrant": True})


def test_checkpointing_of_some_layers_is_refused() -> None:
    """transformers 5 has this argument; without the message it would be ignored."""
    model = make()
    with pytest.raises(ValueError, match="every_n_layers must be 1"):
        model.gradient_checkpointing_enable(every_n_layers=2)
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize("name", KINDS)
def test_embeddings_in_place_of_ids(name: str, folders: dict[str, Path]) -> None:
    model = load(name, folders[name]).eval()
    embeds = model.get_input_embeddings()(ids_for(model))
    torch.testing.assert_close(model(inputs_embeds=embeds)[0], model(ids_for(model))[0])


def rows(kind: type[Any]) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(7, 300, (8, 12), generator=generator)
    found = []
    for number, row in enumerate(ids):
        row_labels = torch.where(torch.arange(12) < 1 + number, row, -100)
        labels = number % 3 if kind is ElcForSequenceClassification else row_labels
        found.append({"input_ids": row, "attention_mask": torch.ones_like(row), "labels": labels})
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", [ElcForMaskedLM, ElcForSequenceClassification])
def test_trainer_accumulates_the_gradients_of_one_batch(kind: type[Any], checkpointing: bool, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    found = []
    for size, steps in ((8, 1), (2, 4)):
        model = make(kind, num_labels=3)
        seen: dict[str, Tensor] = {}

        class Recorder(torch.optim.SGD):
            def step(self, closure: Any = None, model: Any = model, seen: Any = seen) -> Any:
                seen.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
                return super().step(closure)

        arguments = TrainingArguments(
            output_dir=str(tmp_path / f"{size}"),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=1,
            max_grad_norm=0.0,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            gradient_checkpointing=checkpointing,
        )
        optimizer: Any = (Recorder(model.parameters(), lr=0.0), None)
        Trainer(model=model, args=arguments, train_dataset=rows(kind), optimizers=optimizer).train()  # type: ignore[arg-type]
        found.append(seen)
    one, accumulated = found
    assert one
    assert one.keys() == accumulated.keys()
    worst = max(float((one[name] - accumulated[name]).abs().max()) for name in one)
    assert worst < 1e-5 * max(float(gradient.abs().max()) for gradient in one.values())


def test_tokenizer_is_loaded_without_a_question(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers 5 reads the model's config first, and would ask whether to run the model's code."""

    def refuse(*arguments: object) -> str:
        raise AssertionError("a question at the terminal")

    monkeypatch.setattr("builtins.input", refuse)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    found = AutoTokenizer.from_pretrained(folders["AutoModelForMaskedLM"], trust_remote_code=False)
    own_class = PreTrainedTokenizerFast.from_pretrained(folders["AutoModelForMaskedLM"])
    assert own_class("the [MASK] sees")["input_ids"] == found("the [MASK] sees")["input_ids"]
    the, cat, sees, dog = found.convert_tokens_to_ids(list(WORDS))
    assert found("the [MASK] sees the dog")["input_ids"] == [1, the, 4, sees, the, dog, 2]
    assert found("[MASK] cat")["input_ids"] == [1, 4, cat, 2]
    assert (found.bos_token_id, found.eos_token_id, len(found)) == (1, 2, 300)


def test_masks(folders: dict[str, Path]) -> None:
    model = load("AutoModelForMaskedLM", folders["AutoModelForMaskedLM"]).eval()
    short, real = IDS[:, :6], (torch.arange(10) < 6).expand(4, 10)
    wanted = model(short).logits
    additive = torch.zeros(4, 1, 1, 10).masked_fill(~real[:, None, None], torch.finfo(torch.float32).min)
    square = real[:, None].expand(4, 10, 10)
    for mask in (real, real.long(), real.float(), square, square[:, None].long(), additive):
        torch.testing.assert_close(model(IDS, mask).logits[:, :6], wanted)
    with pytest.raises(ValueError, match="attention_mask"):
        model(IDS, real[:, :5])


def test_nothing_is_silently_ignored(folders: dict[str, Path]) -> None:
    model = load("AutoModelForMaskedLM", folders["AutoModelForMaskedLM"]).eval()
    out = model(IDS, output_attentions=True, output_hidden_states=True)
    assert len(out.attentions) == 4
    assert len(out.hidden_states) == 5
    assert isinstance(model(IDS, return_dict=False), tuple)
    model.config.output_hidden_states = True
    assert model(IDS).hidden_states is not None
    model(IDS, token_type_ids=torch.zeros_like(IDS))
    for wrong in ({"position_ids": IDS}, {"atention_mask": IDS}):
        with pytest.raises(TypeError):
            model(IDS, **wrong)
    with pytest.raises(ValueError, match="token_type_ids"):
        model(IDS, token_type_ids=torch.ones_like(IDS))


def test_fill_mask_pipeline(folders: dict[str, Path]) -> None:
    fill = pipeline("fill-mask", model=str(folders["AutoModelForMaskedLM"]), trust_remote_code=True, device="cpu")
    found: Any = fill("the [MASK] sees the dog", top_k=3)
    the, _, sees, dog = fill.tokenizer.convert_tokens_to_ids(list(WORDS))
    logits = make()(torch.tensor([[1, the, 4, sees, the, dog, 2]])).logits[0, 2]
    assert [each["token"] for each in found] == logits.topk(3).indices.tolist()
    assert found[0]["score"] == pytest.approx(float(logits.softmax(-1).max()), rel=1e-4)


def test_text_classification_pipeline(folders: dict[str, Path]) -> None:
    folder = str(folders["AutoModelForSequenceClassification"])
    classify = pipeline("text-classification", model=folder, trust_remote_code=True, device="cpu")
    found: Any = classify(["the cat sees", "the dog sees the cat"], top_k=None, batch_size=2)
    assert [sorted(each["label"] for each in one) for one in found] == [["LABEL_0", "LABEL_1", "LABEL_2"]] * 2
    assert sum(each["score"] for each in found[0]) == pytest.approx(1.0, abs=1e-5)
    alone: Any = classify("the cat sees")
    assert alone[0]["score"] == pytest.approx(max(each["score"] for each in found[0]), rel=1e-5)


def test_peft_lora_step(folders: dict[str, Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    name = "AutoModelForSequenceClassification"
    base = load(name, folders[name])
    model = peft.get_peft_model(
        base, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["in_proj_v"], modules_to_save=["head"])
    )
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert moved
    before = [parameter.detach().clone() for parameter in moved]
    optimizer = torch.optim.SGD(moved, lr=0.5)
    labels = torch.tensor([0, 1, 2, 0])
    model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=labels).loss.backward()
    optimizer.step()
    assert any(not torch.equal(one, other) for one, other in zip(before, moved))
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(name, folders[name]), tmp_path / "adapter").eval()
    torch.testing.assert_close(again(input_ids=IDS).logits, model.eval()(input_ids=IDS).logits)


def test_sentence_transformers(folders: dict[str, Path]) -> None:
    package = pytest.importorskip("sentence_transformers")
    made = package.SentenceTransformer(str(folders["AutoModel"]), trust_remote_code=True, device="cpu")
    assert made.encode(["the cat sees", "the dog"]).shape == (2, SHAPE["hidden_size"])


class Logits(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids, attention_mask)[0]


DYNAMIC = {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}}
OTHER_SHAPES = ((3, 5), (2, 33), (5, 64))


def other_inputs(batch: int, length: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(7, 300, (batch, length), generator=torch.Generator().manual_seed(length))
    mask = torch.arange(length) < torch.arange(length, length - batch, -1)[:, None]
    return ids, mask.long()


@pytest.mark.parametrize("variant", MIXING_RULES)
def test_torch_export_with_any_length(variant: str) -> None:
    model = Logits(make(layer_mixing=variant))
    dims = {0: torch.export.Dim("batch", max=1024), 1: torch.export.Dim("length", max=64)}
    shapes = {"input_ids": dims, "attention_mask": dims}
    with torch.no_grad():
        program = torch.export.export(model, other_inputs(4, 12), dynamic_shapes=shapes, strict=False)
        for size in OTHER_SHAPES:
            torch.testing.assert_close(program.module()(*other_inputs(*size)), model(*other_inputs(*size)))


@pytest.mark.parametrize("name", ["AutoModelForMaskedLM", "AutoModelForSequenceClassification"])
def test_onnx_with_any_length(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    model = Logits(load(name, folders[name]).eval())
    path = tmp_path / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(model, other_inputs(4, 12), str(path), dynamo=True, dynamic_shapes=DYNAMIC)
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        for size in OTHER_SHAPES:
            inputs = other_inputs(*size)
            (found,) = session.run(None, dict(zip(names, (each.numpy() for each in inputs))))
            torch.testing.assert_close(torch.from_numpy(found), model(*inputs), rtol=1e-4, atol=1e-5)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = export_model(make(), None, tmp_path / "bare")
    with pytest.raises(ConfigError, match="tokenizer"):
        load_model_and_tokenizer(folder)


def test_config_round_trip(folders: dict[str, Path]) -> None:
    found = AutoConfig.from_pretrained(folders["AutoModelForSequenceClassification"], trust_remote_code=True)
    assert (found.num_labels, found.classifier_token) == (3, "first")
    assert AutoModel.from_pretrained(folders["AutoModelForMaskedLM"], trust_remote_code=True).base_model_prefix == "elc"
