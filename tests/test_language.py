"""Documents, messages, docstrings and comments are in plain technical English."""

import ast
import io
import re
import tokenize

import pytest
from common.child_processes import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
MODULES = [file for folder in ("jaxcnn", "experiments", "configs", "docs") for file in (ROOT / folder).rglob("*.py")]
NOUNS = "batch|call|channel|class|core|device|epoch|example|family|file|folder|image|library|parameter|process|row|run|step"
BRITISH = (
    "normal|initial|optim|regular|quant|serial|summar|recogn|visual|categor|organ|minim|maxim|general|standard|synchron|random"
)
PHRASES = (  # pattern, what to write, a text in which it is found, a correct text
    (
        rf"\b(an?|one|two|each) (?!of\b)\w+ an? ({NOUNS}|second|thread)(?=[,.;:)]|$)",
        "per …",
        "a mean a channel",
        "a mean per channel",
    ),
    (
        r"\b(images|examples|steps|labels|files) an? (batch|image|second|step|folder)\b",
        "per …",
        "110 images a second",
        "an image",
    ),
    (
        r"\b(?<!here )(is|are) no (?!long|more|few|less|such|step)\w+",
        "is not a",
        "3.5 is no int",
        "there is no file; it is no longer",
    ),
    (r"\btells? .{1,30} apart\b", "has … classes", "the head tells 10 classes apart", "the parts are far apart"),
    (r"\bgo(es)? on where\b", "resume", "it goes on where it ended", "it resumes at the last step"),
    (r"\bwhere there (is|are) (one|none|some)\b", "if … exists", "the last where there is none", "the last if none exists"),
    (r"\bas (it|they) (is|are) told\b", "as …", "it reads as it is told", "it reads as requested"),
    (r"\bis none of\b", "is not one of", "fit is none of crop, pad", "fit is not one of crop, pad"),
    (r"\bto judge by\b", "needs …", "no validation set to judge by", "early stopping needs a validation set"),
    (rf"\bone ({NOUNS}|key|line|value) an? ({NOUNS}|hour)\b", "per …", "one file a class in a folder", "one of a class"),
    (
        r"\b\d[\d,.]* (?!(if|of|in|or)\b)\w+ an? (hour|minute|second|step|epoch|image)\b",
        "per …",
        "2,000 steps an hour",
        "2,000 steps per hour",
    ),
    (r"\bat hand\b", "available", "the weights at hand", "on the other hand"),
    (r"\bby hand\b", "manually", "a rule that is set by hand", "a rule that is set manually"),
    (r"\bfor good(?=[,.;:)]|$)", "permanently", "it is stopped for good.", "for good results, train longer"),
    (r"\bof (its|their|one's|his) own\b", "a separate …", "a program of its own kind", "its own program"),
    (r"\bas (it|they) lies?\b", "as stored", "the memory as it lies", "the memory as it is stored"),
    (r"\b(is|are|was|were|be|been) told\b", "receives, is called with", "the handler is told", "the handler receives it"),
    (r"\b(is|are|was|were) said\b", "is printed, is reported", "an assumption is said", "an assumption is printed"),
    (r"\b(is|are|was|were) wanted\b", "is needed", "the library h5py is wanted", "the wanted step is needed"),
    (r"\b(?<!who )wants (the|an?|it|them)\b", "needs", "it wants the library h5py", "a user who wants the logits"),
    (r"\b(is|are) asked for\b", "is requested", "the file that is asked for", "the file that is requested"),
    (r"\b(is|are|was|were) looked at\b", "is inspected", "images that were looked at", "images that were inspected"),
    (
        r"\b(is|are|was|were) passed over\b(?! (an?|the)\b)",
        "is skipped",
        "hidden files are passed over",
        "hidden files are skipped",
    ),
    (r"\bwhat is there\b", "name the thing", "it reads what is there", "it reads what is in there"),
    (r"\bwhere (it|they|that|these|those) (is|are) there\b", "if … exists", "oneDNN, where it is there", "where it is stored"),
    (r"\bwhere (it|they) (has|have) (one|none|any)\b", "if it has …", "labels, where it has any", "labels, if it has any"),
    (r"\bgo(es)? on (with|from)\b", "continues with", "the run goes on with step 3", "the run continues with step 3"),
    (r"\bon (its|their) way\b", "in flight", "steps that are on their way", "steps that are in flight"),
    (r"\bwhole,? or (none|not at all)\b", "atomically", "it writes a file whole or not at all", "it writes a whole file"),
    (
        r"\b(with|of|after|in|for) so many \w+\b(?! that)",
        "this number of",
        "images of so many channels",
        "in so many files that",
    ),
    (r"\bparts? of (the|a) data( set)?\b", "split", "another part of the data set", "parts of a model"),
    (r"\bbrings\b", "includes, provides", "a file that brings its names", "a file that includes its names"),
    (
        r"\bhands? (it|them|this|the \w+) (over|on|to|down)\b",
        "passes",
        "it hands the batch to XLA",
        "it passes the batch to XLA",
    ),
    (r"\blies? (beside|elsewhere|there|in another)\b", "is stored", "it lies in another file", "the value lies in [0, 1]"),
    (r"\b(the like\b|and such\b(?! an? ))", "name them", "pickles and the like", "a task and such a model; the likely class"),
    (r"\bkin\b", "related …", "ResNets and their kin", "a kind of ResNet"),
    (
        r"\b(strangers?|inhabitants?|foreign(?! function))\b",
        "external …",
        "a foreign library",
        "the foreign function interface",
    ),
    (r"\bother people\b", "external …", "other people's weights", "weights of other libraries"),
    (r"\b[Pp]ictures?\b", "image", "3 pictures cannot be read", "3 images cannot be read"),
    (
        rf"(?i)\b\w*({BRITISH})is(e|es|ed|er|ers|ing|ation|ations)\b",
        "-ize",
        "it normalises them",
        "optimized, otherwise revised",
    ),
    (
        r"(?i)\b(colour|grey|centre|behaviour|flavour|neighbour|licence|labelled)\w*",
        "American spelling",
        "grey",
        "a gray image",
    ),
)
MESSAGES = ("UserError", "RunFailed", "Setting", "say", "print")


def documents(file):
    """Yields the lines of a document as (line, text)."""
    yield from enumerate(file.read_text("utf-8").splitlines(), start=1)


def messages(file):
    """Yields the texts that the program prints or documents for its users, as (line, text)."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in MESSAGES:
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


def docstrings(file):
    """Yields the docstrings, also those of fields and constants, as (line, text). Code in backticks is left out."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, re.sub(r"`[^`]*`", "``", " ".join(node.value.value.split()))


def comments(file):
    """Yields the comments as (line, text)."""
    for token in tokenize.generate_tokens(io.StringIO(file.read_text("utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], re.sub(r"`[^`]*`", "``", token.string)


def public_docstrings(node):
    """Yields the docstrings of the public functions, methods and classes in a module or class, as (line, text)."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            if text := ast.get_docstring(child):
                yield child.lineno, text
            if isinstance(child, ast.ClassDef):
                yield from public_docstrings(child)


def lacks_content(docstring):
    """Returns whether a docstring has fewer than three words and states no shapes."""
    return "->" not in docstring and len(re.findall(r"\d+|[^\W\d_]{2,}", docstring)) < 3


def search(file, texts):
    """Yields one line per phrase in the texts of a file."""
    for line, text in texts(file):
        for pattern, better, *_ in PHRASES:
            if found := re.search(pattern, text):
                yield f"{file.relative_to(ROOT)}:{line}: {found[0]!r}: {better}"


@pytest.mark.parametrize(("pattern", "wrong", "right"), [(pattern, wrong, right) for pattern, _, wrong, right in PHRASES])
def test_phrases_are_found_and_correct_texts_are_not(pattern, wrong, right):
    assert re.search(pattern, wrong)
    assert not [other for other, *_ in PHRASES if re.search(other, right)]


@pytest.mark.parametrize("docstring", ["One.", "640×480.", "(seed, place).", "(H, W, C).", "The file."])
def test_docstrings_without_content_are_found(docstring):
    assert lacks_content(docstring)


@pytest.mark.parametrize(
    "docstring", ["Shape (H, W, C) of images.", "(N, H, W, C) -> (N, H/32, W/32, F).", "Figures 10 and 16."]
)
def test_short_docstrings_with_content_are_accepted(docstring):
    assert not lacks_content(docstring)


def test_documents_are_in_plain_english():
    assert len(DOCUMENTS) >= 7
    assert [found for file in DOCUMENTS for found in search(file, documents)] == []


@pytest.mark.parametrize("texts", [docstrings, comments, messages])
def test_modules_are_in_plain_english(texts):
    assert len(MODULES) >= 200
    assert [found for file in MODULES for found in search(file, texts)] == []


def test_public_docstrings_have_content():
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for file in MODULES
        for line, text in public_docstrings(ast.parse(file.read_text("utf-8")))
        if lacks_content(text) or text.startswith("Whether ")
    ]
    assert found == []
