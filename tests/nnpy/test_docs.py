"""The Python blocks of README.md and docs/ run as they stand, those of a page one after the other; so do examples."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("NNPY_DATA", PROJECT.parent / "shared" / "data"))
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
GUIDE = sorted((PROJECT / "docs" / "guide").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text()) if found == language]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_code_runs(page, tmp_path):
    script = tmp_path / f"{page.stem}.py"
    script.write_text("\n".join(blocks(page, "python")))
    if "matplotlib" in script.read_text():
        pytest.importorskip("matplotlib")
    result = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{page.name}:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    assert "Warning" not in result.stderr, result.stderr
    if page in GUIDE:  # what the page shows is what its code draws
        shown = {name for name in LINK.findall(page.read_text()) if name.endswith(".png")}
        assert shown == {path.name for path in tmp_path.glob("*.png")}


@pytest.mark.parametrize("example", sorted((PROJECT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example_runs(example, tmp_path):
    """Examples check their own results; those that take long have a short form."""
    text = example.read_text()
    if "cifar10-jpeg.zip" in text and not DATA.joinpath("cifar10-jpeg.zip").exists():
        pytest.skip(f"no cifar10-jpeg.zip in {DATA}: NNPY_DATA names another folder")
    tables = "adult-train.csv" in text
    if tables and not DATA.joinpath("adult-train.csv").exists():
        pytest.skip(f"no tables in {DATA}: NNPY_DATA names another folder")
    options = [*(["--short"] if '"--short"' in text else []), *(["--data", DATA] if tables else [])]
    result = subprocess.run(
        [sys.executable, example, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    assert result.stderr == ""


def test_readme_leads_with_the_two_commands():
    first, second, *_ = blocks(PROJECT / "README.md", "sh")
    assert first.strip() == "pip install . && nnpy train mnist"
    assert second.startswith('pip install ".[test]" && pytest\npytest --benchmark-only')


def test_ten_lines_of_python():
    code = blocks(PROJECT / "README.md", "python")[0].strip().splitlines()
    assert len([line for line in code if line]) <= 12


@pytest.mark.parametrize("page", [*PAGES, PROJECT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_reachable_from_the_readme():
    linked = set(LINK.findall((PROJECT / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in PAGES[1:] if page not in GUIDE} <= linked
    index = (PROJECT / "docs" / "guide" / "README.md").read_text()
    assert {page.name for page in GUIDE} - {"README.md"} <= set(LINK.findall(index))


def test_architecture_names_files_that_exist():
    """Every path in backquotes that begins with src/, tests/, bench/ or tools/ is there."""
    paths = re.findall(r"`((?:src|tests|bench|tools)/[\w/.]+)`", (PROJECT / "docs" / "architecture.md").read_text())
    assert len(paths) > 10
    assert [path for path in paths if not (PROJECT / path).exists()] == []
