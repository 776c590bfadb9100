"""Documents and messages are in plain technical English: the phrases that were replaced do not come back."""

import ast
import re
from pathlib import Path

import pytest
from common.child_processes import ROOT

NOUNS = "batch|call|channel|class|core|device|epoch|example|family|file|folder|image|library|parameter|process|row|run|step"
BANNED = {  # pattern: what to write
    rf"\b(an?|one|two|each) \w+ an? ({NOUNS}|second|thread)(?=[,.;:)]|$)": "per …",
    r"\b(images|examples|steps|labels|files) an? (batch|image|second|step|folder)\b": "per …",
    r"\b(is|are) no (?!(long|more|few|less|such|class|map|validation|example|data|picture in|step|head)\w*)\w+": "is not a",
    r"\btells? .{1,30} apart\b": "has … classes",
    r"\bgo(es)? on where\b": "resume",
    r"\bwhere there (is|are) (one|none|some)\b": "if … has",
    r"\bas (it|they) (is|are) told\b": "as …",
    r"\bis none of\b": "is not one of",
    r"\bto judge by\b": "needs …",
}
SAID = ("UserError", "RunFailed", "Setting", "say", "print")


def messages(file):
    """What the program says to its users: (line, text)."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in SAID:
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


def documents(file):
    """The lines of a document."""
    yield from enumerate(file.read_text("utf-8").splitlines(), start=1)


def banned(file, texts):
    for line, text in texts(file):
        for pattern, better in BANNED.items():
            if found := re.search(pattern, text):
                yield f"{file.relative_to(ROOT)}:{line}: {found[0]!r}: {better}"


@pytest.mark.parametrize(
    "text", ["a mean a channel", "one file a family.", "110 images a second", "3.5 is no int", "the last where there is none"]
)
def test_phrases_are_found(text):
    assert any(re.search(pattern, text) for pattern in BANNED)


def test_documents_are_in_plain_english():
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(files) >= 7
    assert [found for file in files for found in banned(file, documents)] == []


def test_messages_are_in_plain_english():
    files: list[Path] = [*(ROOT / "jaxcnn").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]
    assert [found for file in files for found in banned(file, messages)] == []
