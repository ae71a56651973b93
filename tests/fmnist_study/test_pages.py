"""What the pages show of data, API and notebook works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.house import ROOT

DOCS = ROOT / "docs"


def blocks(page: str, language: str, section: str | None = None) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    if section is not None:
        text = re.split(r"^## ", text.split(f"\n## {section}\n")[1], flags=re.MULTILINE)[0]
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_pictures_of_the_page_are_made_and_trained(tmp_path: Path) -> None:
    (python,) = blocks("own-work.md", "python", "Data")
    run(tmp_path, sys.executable, "-c", python)
    (commands,) = blocks("own-work.md", "sh", "Data")
    said = [
        run(
            tmp_path, sys.executable, "-m", *line.replace("fmnist-study", "fmnist_study", 1).split()
        )
        for line in commands.splitlines()
    ]
    assert "400 training and 100 test images of 21x21, 2 classes, 3 channels" in said[0]
    assert all("no test images: a fifth of each class" in words for words in said)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "section"), [("api.md", None), ("own-work.md", "Notebook")])
def test_the_python_of_a_page_runs(tmp_path: Path, page: str, section: str | None) -> None:
    code = "\n".join(blocks(page, "python", section))
    assert "fmnist_study.run" in code
    (tmp_path / "page.py").write_text(code)
    said = run(tmp_path, sys.executable, "page.py")
    assert page != "api.md" or "Validation accuracy in %" in said


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 4
    assert "<svg" in shown[0]
    assert shown[2].startswith("<iframe srcdoc=")
    assert "better" in shown[3]
