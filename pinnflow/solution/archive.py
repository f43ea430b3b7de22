"""A solution as the content of a file, and back. The bytes and the digest are `container.py`'s, the declaration as
data is `declaration.py`'s.

Inside the HDF5 part (all of it is read by `h5py` alone; `docs/file-format.md` has an example):

| path | what |
|---|---|
| `/` attributes | `method`, `reason`, `stop`, `error_estimate`, `success`, `name`, `text` (the problem in words) |
| `/declaration` | JSON text: the arguments of `Problem` as data (`declaration.py` says how) |
| `/arrays/0`, ... | the arrays that the declaration refers to |
| `/trial` | the fitted function: groups for dicts, data sets for arrays, attributes for scalars |
| `/error_trial` | likewise what the true solution has more, by estimate; only where it was asked for |
| `/unknowns` | JSON text: `[[symbol, value, standard error, [low, high]], ...]` |
| `/checks`, `/history`, `/seed`, `/settings`, `/versions` | JSON text |

JSON texts are attributes where they are short and data sets where they are long, like every text in a file.
"""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

from pinnflow.declare.notation import written
from pinnflow.errors import DamagedFile, DeclarationError, NotYet
from pinnflow.solution.declaration import decode, decode_problem, encode, encode_problem


def pack(solution: Any) -> dict[str, Any]:
    """Everything a file holds about `solution`, as the content of a container.

    Raises:
        NotYet: the declaration or the trial holds something that files cannot hold; the message names it.
    """
    arrays: dict[str, Any] = {}
    declaration = encode_problem(solution.problem, arrays)
    _verify(solution.problem, declaration, arrays)
    unknowns = [
        [encode(symbol, arrays), e.value, e.standard_error, list(e.interval)] for symbol, e in solution.unknowns.items()
    ]
    error = {} if solution.error_trial is None else {"error_trial": _state(solution.error_trial)}
    return {
        **error,
        "arrays": arrays,
        "checks": _json(solution.checks),
        "declaration": _json(declaration),
        "error_estimate": solution.error_estimate,
        "history": _json(solution.history),
        "method": solution.method,
        "name": solution.problem.name,
        "reason": solution.reason,
        "seed": _json(solution.seed),
        "settings": _json(solution.settings),
        "stop": solution.stop,
        "success": solution.success,
        "text": _in_words(solution.problem),
        "trial": _state(solution.trial),
        "unknowns": _json(unknowns),
        "versions": _json(solution.versions),
    }


def unpack(content: dict[str, Any], path: str | PathLike[str]) -> dict[str, Any]:
    """The arguments of `Solution` by name; trials are still states, `unknowns` map to the arguments of `Estimate`.

    Raises:
        DamagedFile: the content is complete, but not what this release expects.
    """
    try:
        arrays = content["arrays"]
        problem = decode_problem(json.loads(content["declaration"]), arrays)
        unknowns = {
            decode(symbol, arrays): (value, error, tuple(interval))
            for symbol, value, error, interval in json.loads(content["unknowns"])
        }
        texts = {name: json.loads(content[name]) for name in ("checks", "history", "settings", "seed", "versions")}
        plain = {name: content[name] for name in ("error_estimate", "method", "reason", "stop", "trial")}
        plain["error_trial"] = content.get("error_trial")
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError, NotYet) as error:
        words = str(error) if isinstance(error, (DeclarationError, NotYet)) else f"{type(error).__name__}: {error}"
        raise DamagedFile(f"The declaration in `{path}` cannot be read by this release.\n  {words}") from None
    return {"problem": problem, "unknowns": unknowns, **texts, **plain}


def _verify(problem, declaration, arrays):
    """Reads the declaration back at once: a file that cannot be read is noticed while the solution is still there."""
    again = decode_problem(json.loads(json.dumps(declaration)), arrays)
    for name in ("equations", "conditions", "domain", "exact", "unknowns"):
        before, after = getattr(problem, name, None), getattr(again, name, None)
        if encode(before, {}) != encode(after, {}):
            raise NotYet(
                f"`{name}` of {problem.name or 'the problem'} changes when it is written and read back: "
                f"`{before}` became `{after}`. Write it without `evaluate=False`."
            )


def _state(trial):
    return {**trial.state(), "kind": trial.kind}


def _in_words(problem):
    lines = [f"{block.name}: {written(block.statement, problem.fields)}" for block in problem.blocks]
    lines += [f"{axis} from {low} to {high}" for axis, (low, high) in problem.domain.items()]
    return "\n".join(lines)


def _json(value):
    return json.dumps(value, sort_keys=False, ensure_ascii=False)
