"""A tokenizer, models and minimal pairs that are small enough for any test."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

WORDS = "the a cat dog cats dogs sleep sleeps see sees who near old no ever himself herself boy girl".split()  # noqa: SIM905 (a list would fill a screen)
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def tiny_tokenizer(adds_special_tokens: bool = False) -> PreTrainedTokenizerFast:
    """WordPiece over a few words, whose longer ones fall into pieces."""
    pieces = [*SPECIAL, *WORDS, *"abcdefghijklmnopqrstuvwxyz.?", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if adds_special_tokens:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


def tiny_bert(vocab_size: int, seed: int = 0, **changes: int) -> BertForMaskedLM:
    """A random BERT; weights are large enough that scores differ clearly."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(
        vocab_size=vocab_size, max_position_embeddings=40, pad_token_id=3, **{**sizes, **dropout, **changes}
    )
    model = BertForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


ROWS = {
    "agreement": [
        ("the cat sleeps", "the cat sleep"),
        ("the dogs sleep", "the dogs sleeps"),
        ("the old boy sees the dogs", "the old boy see the dogs"),
        ("a girl near the cats sleeps .", "a girl near the cats sleep ."),
        ("no dog sleeps", "no dog sleep"),
    ],
    "reflexive": [
        ("the boy sees himself", "the boy sees herself"),
        ("the girl sees herself", "the girl sees himself"),
        ("the boy sees himself", "the boys see himself ever"),
    ],
    "order": [("who sees the cat ?", "who the cat sees ?"), ("the zebra sleeps ü", "zebra the sleeps ü")],
}
PHENOMENON = {"agreement": "number", "reflexive": "binding_of_anaphors", "order": "binding_of_anaphors"}


def write_pairs(folder: Path, rows: dict[str, list[tuple[str, str]]] | None = None) -> Path:
    """A folder of JSONL in BLiMP's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    for paradigm, sentences in (rows or ROWS).items():
        lines = [
            json.dumps(
                {
                    "sentence_good": good,
                    "sentence_bad": bad,
                    "UID": paradigm,
                    "linguistics_term": PHENOMENON.get(paradigm, paradigm),
                    "field": "syntax",
                    "pair_id": i,
                }
            )
            for i, (good, bad) in enumerate(sentences)
        ]
        (folder / f"{paradigm}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def reference_score(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, text: str) -> float:
    """Pseudo-log-likelihood the plain way: one forward pass a token, whole logits."""
    inner = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.cls_token_id, *inner, tokenizer.sep_token_id]])
    score = 0.0
    for position in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, position] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=masked).logits[0, position]
        score += float(logits.double().log_softmax(-1)[ids[0, position]])
    return score
