"""What the pages tell people to type can be typed: verbs, flags, keys, targets and files exist.

Each `tacit` line of a shell block goes through the real parser, which is stopped before it would work.
"""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from tacit import cli
from tacit.config import arguments, load
from tacit.errors import TacitError
from tacit.tools.bench import BENCHES

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = re.compile(r"^\.|^(runs|data|build|dist)$")
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(ELSEWHERE.match(part) for part in path.relative_to(ROOT).parts)
)
LANGUAGES = ("", "bash", "sh", "shell", "console")
OURS = ("learning/", "calibration/", "ros_ws/", "tests/", "launch/", "docker/", "examples/", ".ci/")
LEARNING = re.compile(
    r"^(train|export|evaluate (?:alignment|progress|vace_e)|annotate|sample|view alignment|"
    r"simulate (?:alignment|vace_e|videos|kinematics)|check (?:vace_e|labels)|"
    r"convert annotations|doctor vace_e|study)\b"
)


class ParsedError(Exception):
    """The words were read; nothing else was done."""

    def __init__(self, options: object) -> None:
        self.options = options


def commands_of(page: Path) -> list[str]:
    """The commands of all shell blocks of a page, a line each, without comments."""
    blocks = re.split(r"^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1::2]
    found = []
    for block in blocks:
        language, _, text = block.partition("\n")
        for line in text.replace("\\\n", " ").splitlines() if language.strip() in LANGUAGES else ():
            bare = re.sub(r"(^|\s)#.*", "", line.strip().removeprefix("$ "))
            quoted = "'" in bare or '"' in bare
            parts = [bare] if quoted else re.split(r"&&|;|\|", bare)
            found += [part.strip() for part in parts if part.strip()]
    return found


def all_commands() -> list[tuple[str, str]]:
    return [(str(page.relative_to(ROOT)), line) for page in PAGES for line in commands_of(page)]


def ours(line: str) -> list[str]:
    """The words after `tacit`; none where the line is another command or has parts to fill in."""
    if "tacit" not in line or "<" in line or "..." in line or "$" in line:
        return []
    words = shlex.split(line)
    while words and ("=" in words[0] or words[0] in ("sudo", "timeout", "time")):
        words.pop(0)
    is_verb = len(words) > 1 and words[0] == "tacit" and re.match(r"[a-z-]+$", words[1])
    return words[1:] if is_verb else []


TACIT = sorted({(shlex.join(ours(line)), page) for page, line in all_commands() if ours(line)})


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop every verb where its words are read."""

    def stop(options: object, prog: str) -> None:
        raise ParsedError(options)

    monkeypatch.setattr(arguments, "check", stop)
    monkeypatch.setattr("tacit_calibration.cli.check", stop)


def test_there_are_commands_to_try() -> None:
    assert len(TACIT) > 60


@pytest.mark.parametrize(("line", "page"), TACIT, ids=[f"{page}: {line}"[:90] for line, page in TACIT])
def test_what_a_page_says_to_type_is_understood(line: str, page: str, stopped: None) -> None:
    words = shlex.split(line)
    if words[0] == "bench":
        assert set(words[1:2]) <= set(BENCHES) | {"all", "list"}
        return  # a bench imports what it measures
    if LEARNING.match(line):
        pytest.importorskip("torch")
    if line.startswith("convert ") and not {"--to", "--from", "vace_e", "annotations"} & set(words):
        words += ["--from", "lerobot"]  # recognised by its files, which are not here
    try:
        code = cli.main(words)
    except ParsedError as parsed:
        understood(words, parsed.options)
    except SystemExit as left:
        assert left.code == 0, f"{page}: tacit {line}"
    else:
        assert code == 0, f"{page}: tacit {line}"  # such as `tacit bench list`


def understood(words: list[str], options: object) -> None:
    """Keys that follow the flags exist too."""
    if words[0] == "train" and words[1:2] != ["--help"]:
        from tacit_learning.cli import MODELS, WITH_DEFAULTS
        from tacit_learning.options import TABLES, find_config, overrides

        kind, config = words[1], getattr(options, "config", None)
        if config is None and kind not in WITH_DEFAULTS:
            raise AssertionError(f"tacit {' '.join(words)}: no --config")
        path = find_config(config or Path(f"{kind}.yaml"))
        if not path.is_file() and not str(config).startswith(OURS):
            return  # a file of the reader's own
        rest = [word for word in words[2:] if word not in ("--config", str(config))]
        module, _, name = MODELS[kind].config.partition(":")
        load(getattr(importlib.import_module(module), name), path, overrides(rest, TABLES[kind]))
    if words[0] == "up":
        from tacit_ros.run.stacks import arguments as options_of

        given = getattr(options, "options", ())
        valid = set(options_of(options.stack))
        bare = {key.rpartition(".")[2] for key in valid}
        for word in given:
            key = word.partition("=")[0]
            assert "=" in word and (key in valid or key.rpartition(".")[2] in bare), word


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_targets_and_files_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    missing = []
    for line in commands_of(page):
        words = re.split(r"[\s=]+", line)
        if words[0] == "make":
            missing += [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word) and word not in targets]
        named = [
            word.strip("'\"") for word in words if word.startswith(OURS) and not re.search(r"[<>*{$]", word)
        ]
        missing += [word for word in named if not (ROOT / word.partition("::")[0]).exists()]
    assert missing == []


def test_no_page_is_longer_than_a_newcomer_reads() -> None:
    lengths = {str(page.relative_to(ROOT)): len(page.read_text().splitlines()) for page in PAGES}
    assert {name: length for name, length in lengths.items() if "README" in name and length > 300} == {}


def test_a_wrong_flag_on_a_page_is_seen(stopped: None) -> None:
    for words in (["check", "data", "--no-such-flag"], ["simulate", "--episode", "x"]):
        with pytest.raises(SystemExit) as left:
            cli.main(words)
        assert left.value.code == 2
    with pytest.raises(TacitError):
        understood(["train", "act_hsa", "train.stepz=3"], type("O", (), {"config": Path("act_hsa_demo")})())
