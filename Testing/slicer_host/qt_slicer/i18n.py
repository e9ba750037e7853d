"""Stand-in for `slicer.i18n`: strings pass through untranslated."""

from __future__ import annotations


def translate(context: str, text: str) -> str:
    return text


def tr(text: str) -> str:
    return text
