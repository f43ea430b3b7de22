r"""Particular solutions in closed form, for sources made of polynomials, exponentials, sines and cosines.

A source $p(x) e^{\sigma \cdot x}$ with a polynomial p has a solution $q(x) e^{\sigma \cdot x}$, where
$P(\partial + \sigma) q = p$ is a small linear system in the coefficients of q (undetermined coefficients). Everything
happens on the scaled box.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy
import torch
from sympy import Expr
from torch import Tensor

from pinnflow.trial.characteristic import Operator
from pinnflow.trial.features import BASES

MOST_TERMS = 3000
MOST_UNKNOWNS = 1500
SOLVED = 1e-12


class NoParticular(ValueError):
    """A source is no sum of polynomials times exponentials; the message says which term."""


@dataclass(frozen=True)
class Quasipolynomial:
    """One function: the real part of sum over terms of v_i * x^powers_i * e^(s_i . x).

    Attributes:
        exponents: `[T, D]`, complex.
        powers: `[T, D]`, whole numbers.
        amplitudes: `[T]`, complex.
    """

    exponents: Tensor
    powers: Tensor
    amplitudes: Tensor
    kind = "quasipolynomial"
    size = 1

    def accumulate(self, out, points, items):
        for coefficient, orders in items:
            out[:, 0] += coefficient * self._values(points, orders)

    def combine(self, points, wanted, weights):
        return [self._values(points, orders) * weights[0] for orders in wanted]

    def restrict(self, kept):
        return self

    def _values(self, points, orders):
        """D^orders, `[n]`: along each axis d^k(x^p e^(sx)) = sum over l of C(k, l) s^(k-l) p!/(p-l)! x^(p-l) e^(sx)."""
        x = points.to(self.amplitudes.dtype)
        total = torch.exp(x @ self.exponents.T) * self.amplitudes  # [n, T]
        for column, order in enumerate(orders):
            p, s = self.powers[:, column], self.exponents[:, column]
            factor = torch.zeros_like(total)
            for l in range(order + 1):
                falling = torch.ones_like(s)
                for i in range(l):
                    falling = falling * (p - i)
                left = torch.clamp(p - l, min=0)
                factor = factor + math.comb(order, l) * s ** (order - l) * falling * x[:, column, None] ** left
            total = total * factor
        return total.sum(dim=1).real

    def state(self):
        return {
            "kind": self.kind,
            "exponents": torch.view_as_real(self.exponents).numpy(),
            "powers": self.powers.numpy(),
            "amplitudes": torch.view_as_real(self.amplitudes).numpy(),
        }

    @classmethod
    def from_state(cls, state):
        def read(name):
            return torch.view_as_complex(torch.as_tensor(np.ascontiguousarray(state[name])))

        return cls(read("exponents"), torch.as_tensor(state["powers"]), read("amplitudes"))


BASES["quasipolynomial"] = Quasipolynomial


def particular_solution(operator: Operator, ends: Sequence[tuple[Expr, Expr]]) -> tuple[Quasipolynomial, ...]:
    """A solution of the equations with their sources, one function per field, on the scaled box.

    Args:
        operator: the equations.
        ends: per column `(low, high)`, problem units.

    Raises:
        NoParticular: a source is no sum of polynomials times exponentials, or the system has no solution.
    """
    half = [(high - low) / 2 for low, high in ends]
    moved = {c: (low + high) / 2 + h * c for c, (low, high), h in zip(operator.columns, ends, half, strict=True)}
    groups: dict[tuple, dict] = {}
    for e, source in enumerate(operator.sources):
        for sigma, powers, value in _terms(source.xreplace(moved), operator.columns):
            group = groups.setdefault(sigma, {})
            group[e, powers] = group.get((e, powers), 0.0) + value
    pieces: list[list[tuple]] = [[] for _ in range(operator.fields)]
    entries = [
        (e, f, orders, float(a) / math.prod(float(h) ** o for h, o in zip(half, orders, strict=True)))
        for e, equation in enumerate(operator.coefficients)
        for (f, orders), a in equation.items()
    ]
    for sigma, right in groups.items():
        for (f, powers), value in _undetermined(entries, operator.fields, sigma, right).items():
            pieces[f].append((sigma, powers, value))
    dimension = len(operator.columns)
    return tuple(_quasipolynomial(piece or [((0.0,) * dimension, (0,) * dimension, 0.0)]) for piece in pieces)


def _quasipolynomial(piece):
    exponents, powers, values = zip(*piece, strict=True)
    return Quasipolynomial(
        torch.as_tensor(np.array(exponents, dtype=complex)),
        torch.as_tensor(np.array(powers)),
        torch.as_tensor(np.array(values, dtype=complex)),
    )


def _terms(source, columns):
    """[(exponents, powers, coefficient)] of an expression, complex numbers."""
    expanded = sympy.expand(source.rewrite(sympy.exp)) if source != 0 else sympy.S.Zero
    expanded = sympy.powsimp(expanded, combine="exp") if expanded.has(sympy.exp) else expanded
    expanded = sympy.expand(expanded, power_exp=False)
    arguments = sympy.Add.make_args(expanded)
    if len(arguments) > MOST_TERMS:
        raise NoParticular(f"the source has {len(arguments)} terms when it is multiplied out")
    found = []
    for term in arguments:
        if term == 0:
            continue
        exponents, powers, value = np.zeros(len(columns), dtype=complex), [0] * len(columns), complex(1)
        for factor in sympy.Mul.make_args(term):
            used = factor.free_symbols
            if not used:
                value *= complex(factor)
            elif factor.func == sympy.exp and _is_linear(factor.args[0], columns):
                zero = dict.fromkeys(columns, 0)
                value *= complex(sympy.exp(factor.args[0].xreplace(zero)))
                exponents += [complex(factor.args[0].diff(c)) for c in columns]
            elif factor.is_Pow and factor.base in columns and factor.exp.is_Integer and factor.exp > 0:
                powers[columns.index(factor.base)] += int(factor.exp)
            elif factor in columns:
                powers[columns.index(factor)] += 1
            else:
                raise NoParticular(f"the source has the factor `{factor}`, no polynomial, exponential, sine or cosine")
        found.append((tuple(complex(round(v.real, 12), round(v.imag, 12)) for v in exponents), tuple(powers), value))
    return found


def _is_linear(expression, columns):
    return all(not sympy.expand(expression.diff(c)).free_symbols for c in columns)


def _undetermined(entries, fields, sigma, right):
    """{(field, powers): coefficient} of a solution of P(D + sigma) q = p."""
    dimension = len(sigma)
    degree = max(sum(powers) for _, powers in right)
    highest = max(sum(orders) for _, _, orders, _ in entries)
    for extra in range(highest * fields + 1):
        monomials = [
            p for p in itertools.product(range(degree + extra + 1), repeat=dimension) if sum(p) <= degree + extra
        ]
        if fields * len(monomials) > MOST_UNKNOWNS:
            break
        solution = _solve(entries, fields, sigma, right, monomials)
        if solution is not None:
            return solution
    raise NoParticular("the source has no particular solution of a manageable degree")


def _solve(entries, fields, sigma, right, monomials):
    place = {p: i for i, p in enumerate(monomials)}
    equations = 1 + max(e for e, *_ in entries)
    count = len(monomials)
    matrix = np.zeros((equations * count, fields * count), dtype=complex)
    for e, f, orders, a in entries:
        for j, powers in enumerate(monomials):
            for lower in itertools.product(*(range(min(o, p) + 1) for o, p in zip(orders, powers, strict=True))):
                factor = complex(a)
                for o, p, l, s in zip(orders, powers, lower, sigma, strict=True):
                    factor *= math.comb(o, l) * s ** (o - l) * math.perm(p, l)
                rest = tuple(p - l for p, l in zip(powers, lower, strict=True))
                matrix[e * count + place[rest], f * count + j] += factor
    target = np.zeros(equations * count, dtype=complex)
    for (e, powers), value in right.items():
        target[e * count + place[powers]] += value
    weight = np.linalg.norm(matrix, axis=1)
    weight = np.where(weight > 0, weight, 1.0)
    found = np.linalg.lstsq(matrix / weight[:, None], target / weight, rcond=1e-13)[0]
    if np.linalg.norm((matrix @ found - target) / weight) > SOLVED * np.linalg.norm(target / weight):
        return None
    return {
        (f, p): found[f * count + i]
        for f in range(fields)
        for i, p in enumerate(monomials)
        if found[f * count + i] != 0
    }
