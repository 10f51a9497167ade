"""What the command line answers: exit codes, close words, and no traceback for what a user can mend."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from tacit import __version__, cli
from tacit.errors import RigError, TacitError


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], int]], None]:
    """Put a function of the test behind the verb `planted`."""

    def put(function: Callable[[list[str]], int]) -> None:
        monkeypatch.setattr(sys.modules[__name__], "planted", function, raising=False)
        monkeypatch.setitem(sys.modules, "planted_module", sys.modules[__name__])
        monkeypatch.setitem(cli.VERBS, "planted", cli.Verb("planted_module:planted", "", "Start"))

    return put


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f" {verb} " in text for verb in cli.VERBS)


def test_no_words_show_the_five_commands_of_the_first_day_and_fail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 2
    shown = re.findall(r"^  tacit (\w+(?: new)?)", capsys.readouterr().out, re.MULTILINE)
    assert shown == ["doctor", "demo", "rig new", "up", "check"] and set(shown) <= set(cli.VERBS)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tacit {__version__}\n"


def test_a_misspelt_verb_is_answered_with_the_close_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evalute", "--task", "place_cube"]) == 2
    assert "did you mean 'evaluate'" in capsys.readouterr().err


def test_the_verb_gets_the_remaining_words_and_gives_the_exit_code(plant: Callable) -> None:
    seen: list[list[str]] = []

    def verb(argv: list[str]) -> int:
        seen.append(argv)
        return 1

    plant(verb)
    assert cli.main(["planted", "a", "--b"]) == 1
    assert seen == [["a", "--b"]]


def test_two_words_of_the_table_make_one_verb(plant: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def verb(argv: list[str]) -> int:
        seen.append(argv)
        return 0

    plant(verb)
    monkeypatch.setitem(cli.VERBS, "check planted", cli.VERBS["planted"])
    assert cli.main(["check", "planted", "--b"]) == 0
    assert seen == [["--b"]]


def test_half_a_verb_is_answered_with_what_may_follow(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample"]) == 2
    assert "tacit sample vace_e" in capsys.readouterr().err


def test_what_a_user_can_mend_comes_without_traceback(
    plant: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(argv: list[str]) -> int:
        raise RigError("rig.yaml: cameras.wrist: no topic")

    plant(verb)
    assert cli.main(["planted"]) == 2
    assert capsys.readouterr().err == "rig.yaml: cameras.wrist: no topic\n"


def test_a_bug_of_ours_keeps_its_traceback(plant: Callable) -> None:
    def verb(argv: list[str]) -> int:
        raise ValueError("broken invariant")

    plant(verb)
    with pytest.raises(ValueError, match="broken invariant"):
        cli.main(["planted"])


def test_interrupt_ends_with_the_shells_code(plant: Callable) -> None:
    def verb(argv: list[str]) -> int:
        raise KeyboardInterrupt

    plant(verb)
    assert cli.main(["planted"]) == 130


@pytest.mark.parametrize(
    ("library", "extra"),
    [
        ("torch", "learning"),
        ("rclpy", "ros"),
        ("sensor_msgs", "ros"),
        ("mujoco", "sim"),
        ("tacit_sim", "sim"),
        ("av", "lerobot"),
    ],
)
def test_a_missing_library_is_answered_with_its_extra(
    library: str, extra: str, plant: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(argv: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named {library!r}", name=library)

    plant(verb)
    assert cli.main(["planted"]) == 2
    assert f".[{extra}]" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["colour_of_the_sky", "tacit_sim.no_such_module"])
def test_a_module_that_no_extra_brings_is_a_bug_and_stays_one(name: str, plant: Callable) -> None:
    def verb(argv: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    plant(verb)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["planted"])


def test_resolving_an_unknown_verb_is_a_users_error() -> None:
    with pytest.raises(TacitError, match="no such verb"):
        cli.resolve("nothing-like-it")


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.yaml"), "a.yaml: No such file"),
        (IsADirectoryError(21, "Is a directory", "out"), "give the name of a file"),
        (OSError(28, "No space left on device", "data/x"), "free some space"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(
    problem: OSError, said: str, plant: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(argv: list[str]) -> int:
        raise problem

    plant(verb)
    assert cli.main(["planted"]) == 2
    assert said in capsys.readouterr().err
