"""The declaration of a problem (provisional gate; being completed)."""

from __future__ import annotations

from functools import cached_property

import sympy
from sympy.core.function import AppliedUndef

from pinnflow.declare.analysis import Block, kind_of, make_part


class Problem:
    def __init__(self, equations, domain, conditions=(), *, where=None, unknowns=None, observations=(), time=None,
                 exact=None, name=None):
        self.equations = tuple(equations)
        self.domain = {c: tuple(sympy.sympify(v) for v in b) for c, b in domain.items()}
        self.conditions = tuple(conditions)
        self.unknowns = dict(unknowns or {})
        self.observations = tuple(observations)
        self.exact, self.name = exact, name
        self.coordinates = tuple(self.domain)
        self.time = time or next((c for c in self.coordinates if c.name == "t"), None)
        fields = []
        for e in self.equations:
            found = {f for f in sympy.sympify(e).atoms(AppliedUndef) if set(f.args) <= set(self.coordinates)}
            fields += [f for f in sorted(found, key=str) if f not in fields]
        self.fields = tuple(fields)

    @property
    def columns(self):
        return self.coordinates

    @property
    def bounds(self):
        return {c: (float(self.domain[c][0]), float(self.domain[c][1])) for c in self.columns}

    @cached_property
    def blocks(self):
        out = []
        for i, e in enumerate(self.equations, 1):
            part = make_part(e.lhs - e.rhs if isinstance(e, sympy.Eq) else e, self.columns, self.fields)
            out.append(Block(f"equation {i}", "equation", e, (part,)))
        for i, e in enumerate(self.conditions, 1):
            part = make_part(e.lhs - e.rhs, self.columns, self.fields)
            out.append(Block(f"condition {i}", kind_of(part, self.time), e, (part,)))
        return tuple(out)
