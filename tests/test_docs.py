"""The documentation: the site builds without warnings, links resolve, and its code runs."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from common.child_processes import ROOT, run

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PACKAGES = ("models", "layers", "pretrained", "weights", "data", "robustness", "tasks", "train", "evaluate", "report")


def anchors(page):
    """The anchors that GitHub and MyST give the headings of a Markdown page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not re.match(r"https?:", link) and (not path.exists() or (anchor and anchor not in anchors(path))):
            broken.append(link)
    assert broken == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# A heading")
    page = tmp_path / "page.md"
    page.write_text("[good](other.md#a-heading) [bad](other.md#another) [gone](gone.md)")
    with pytest.raises(AssertionError, match=r"gone\.md"):
        test_links_resolve(page)


def flags(program):
    """The names of the options that a program in experiments/ defines."""
    for node in ast.walk(ast.parse((ROOT / "experiments" / f"{program}.py").read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("DEFINE_"):
            yield node.args[0].value


def test_all_options_of_the_commands_are_documented():
    sections = re.split(r"^## ", (DOCS / "reference" / "commands.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    commands = {section.split("\n", 1)[0]: section for section in sections}
    del commands["Environment variables"]
    for command, text in commands.items():
        documented = set(re.findall(r"--(\w+)", text)) - {"config"}
        assert documented == set(flags(command)), command


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("page", ["README.md", "docs/get_started.md", "docs/index.md"])
def test_the_pages_code_runs(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    code = "".join(block for block in blocks if "hf:" not in block)  # what a hub hosts can't be loaded without a network
    assert "jaxcnn.train.run(config" in code
    (tmp_path / "page.py").write_text(code.replace('"10epochs"', '"4steps"'))
    finished = run("page.py", cwd=tmp_path)
    assert finished.code == 0, finished.err
    assert list(tmp_path.glob("runs/*/report.html"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site. Every warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    options = ("--fail-on-warning", "--keep-going", "-q", "-b", "html", "-d", folder / "doctrees")
    built = run("-m", "sphinx", *options, DOCS, folder / "html", cwd=ROOT)
    assert built.code == 0, built.out + built.err
    return folder / "html"


@pytest.mark.slow
@pytest.mark.process
def test_the_site_has_all_pages_and_public_names(site):
    for page in [*DOCS.rglob("*.md"), *DOCS.glob("tutorials/*.ipynb")]:
        assert (site / page.relative_to(DOCS).with_suffix(".html")).exists()
    for package in PACKAGES:
        text = (site / "reference" / f"{package}.html").read_text("utf-8")
        names = importlib.import_module(f"jaxcnn.{package}").__all__
        assert [name for name in names if not re.search(rf'id="jaxcnn\.[\w.]*\b{name}"', text)] == []


@pytest.mark.slow
@pytest.mark.process
def test_the_site_lists_all_settings(site):
    from jaxcnn.config import Config
    from jaxcnn.settings import declarations

    text = Path(site / "reference" / "settings.html").read_text("utf-8")
    assert [name for name in declarations(Config) if f">{name}<" not in text] == []
