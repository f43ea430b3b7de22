"""The problem that a word on the command line means: a name of `pdes`, or a Python file of the user.

A file is run like any program, except that its `__main__` block stays out. It holds one module-level `Problem`, or one
called `problem`, or a function `problem(**settings)`.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pinnflow.declare.problem import Problem
from pinnflow.errors import PinnflowError
from pinnflow.settings import BadSetting, read_settings, split_pairs, unknown_setting


class BadSource(PinnflowError, ValueError):
    """No problem can be had from a name or a file; the message says why."""


def find_problem(source: str, settings: Sequence[str] = ()) -> tuple[Problem, str]:
    """The problem that `source` means, and the stem of the files made from it.

    Args:
        source: a name of `pdes`, or the path of a Python file.
        settings: `["speed=2", ...]`, the parameters of the function that makes the problem.

    Raises:
        BadSource: there is no such name or file, the file holds no problem or several, or it failed.
        BadSetting: see `pinnflow.settings.read_settings`.
    """
    if source.endswith(".py") or Path(source).name != source:
        path = Path(source)
        return _from_file(path, settings), path.stem
    import pdes

    if source not in pdes.ALL:
        raise BadSource(_no_such_name(source, list(pdes.ALL)))
    function = pdes.ALL[source]
    return _call(function, read_settings(settings, function, source), source, Path(source)), source


def _no_such_name(source: str, names: list[str]) -> str:
    message = f"There is no equation called `{source}`. The names are {', '.join(sorted(names))}."
    near = difflib.get_close_matches(source, names, 1)
    if near:
        message += f"\nDid you mean `{near[0]}`?"
    if Path(source + ".py").exists():
        message += f"\nFor your own file write `{source}.py`."
    else:
        message += "\nYour own equation goes into a file: `FILE.py` with a `Problem` in it."
    return message


def _from_file(path: Path, settings: Sequence[str]) -> Problem:
    if not path.is_file():
        raise BadSource(f"There is no file `{path}`.")
    if path.suffix != ".py":
        raise BadSource(f"`{path}` is not a Python file; its name has to end in `.py`.")
    found = _problem_in(_run(path), path)
    if isinstance(found, Problem):
        for name in split_pairs(settings):
            raise BadSetting(
                unknown_setting(name, {}, str(path))
                + ", because it holds a `Problem`.\n"
                + "Write a function `def problem(speed=1): ... return Problem(...)` to have settings."
            )
        return found
    made = _call(found, read_settings(settings, found, str(path)), f"`problem` of {path}", path)
    if not isinstance(made, Problem):
        raise BadSource(f"The function `problem` of {path} returned {made!r}; expected a `Problem`.")
    return made


def _problem_in(module: ModuleType, path: Path) -> Problem | Callable[..., Any]:
    called = vars(module).get("problem")
    if isinstance(called, Problem) or callable(called):
        return called
    found = {name: value for name, value in vars(module).items() if isinstance(value, Problem)}
    if len({id(value) for value in found.values()}) == 1:
        return next(iter(found.values()))
    if not found:
        raise BadSource(f"{path} holds no `Problem`.\nWrite `problem = Problem(...)` at the top level of the file.")
    raise BadSource(
        f"{path} holds several problems: {', '.join(sorted(found))}.\nCall the one that is meant `problem`."
    )


def _run(path: Path) -> ModuleType:
    name = f"pinnflow_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the suffix is .py
    execute = spec.loader.exec_module
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))  # the file's neighbours, as when Python runs it
    write_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        _in_words(lambda: execute(module), str(path), path)
    finally:
        sys.dont_write_bytecode = write_bytecode
    return module


def _call(function: Callable[..., Any], settings: dict[str, Any], owner: str, path: Path) -> Any:
    return _in_words(lambda: function(**settings), owner, path)


def _in_words(action: Callable[[], Any], owner: str, path: Path) -> Any:
    """The result of `action`; what the user's code raises becomes a `BadSource` that shows it from their first line."""
    try:
        return action()
    except PinnflowError as error:
        line = _last_line_in(error, path)
        raise BadSource(f"{owner}{f', line {line}' if line else ''}:\n{error}") from None
    except SystemExit as error:
        raise BadSource(f"{owner} ended itself with `SystemExit({error.code!r})` before a problem was there.") from None
    except Exception as error:
        if isinstance(error, ValueError) and path.suffix != ".py":
            raise BadSource(f"{owner}: {error}") from None  # a setting that an equation of `pdes` refuses
        shown = "".join(traceback.format_exception(type(error), error, _from(error, path))).rstrip()
        raise BadSource(f"{owner} failed:\n{shown}") from None


def _from(error: BaseException, path: Path) -> Any:
    """The traceback from the first frame in the user's file on; none for a syntax error, whose text shows the place."""
    frames = error.__traceback__
    while frames is not None and not _is_in(frames, path):
        frames = frames.tb_next
    return frames


def _last_line_in(error: BaseException, path: Path) -> int | None:
    line, frames = None, error.__traceback__
    while frames is not None:
        if _is_in(frames, path):
            line = frames.tb_lineno
        frames = frames.tb_next
    return line


def _is_in(frames: Any, path: Path) -> bool:
    return path.suffix == ".py" and Path(frames.tb_frame.f_code.co_filename).resolve() == path.resolve()
