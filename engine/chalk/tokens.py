"""The tokenizer: one token for each word of the lessons, letters for everything else.

Decides how a prompt becomes token ids. Does not decide which words the lessons use: `engine.chalk.captions`.

A Unigram model whose pieces are given rather than trained: the same words give the same file everywhere,
a caption costs about as many tokens as it has words, and any other English, Hindi or Tamil word is spelled.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MAX_TOKENS = 32  # of a prompt, padding and the end mark included
_SPECIAL = ("<pad>", "</s>", "<unk>")
_SPACE = "▁"
_WORD_SCORE, _LETTER_SCORE = -1.0, -12.0  # a whole word always beats its spelling
_SCRIPTS = ((0x61, 0x7B), (0x30, 0x3A), (0x900, 0x980), (0xB80, 0xC00))  # a-z, 0-9, Devanagari, Tamil


def build_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of these words in any case and with any punctuation; from_pretrained loads it."""
    pieces = [(f"{_SPACE}{word}", _WORD_SCORE) for word in sorted({_normal(word) for word in words})]
    letters = [(letter, _LETTER_SCORE) for letter in (_SPACE, *_letters())]
    backend = Tokenizer(models.Unigram([(mark, 0.0) for mark in _SPECIAL] + pieces + letters, unk_id=2))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("removed"),
            pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always", split=True),
        ]
    )
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    pad, end, unknown = _SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=pad, eos_token=end, unk_token=unknown, model_max_length=MAX_TOKENS
    )


def _normal(word: str) -> str:
    return unicodedata.normalize("NFKC", word).lower()


def _letters() -> list[str]:
    """Every letter, mark and digit of the three scripts."""
    points = [chr(point) for start, stop in _SCRIPTS for point in range(start, stop)]
    return [point for point in points if unicodedata.category(point)[0] in "LMN"]
