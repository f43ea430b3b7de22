"""Unknown coefficients and the fields at once, where statements alone do not determine the fields.

An initial state or boundary values that were not declared are found from the observations: Gauss-Newton on the weights
of features and the coefficients together. Rows of the equations weigh a hundred times those of the observations, so
that noise goes into the observations' residuals and not into the equations'.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pinnflow.methods.base import Outcome, Task
from pinnflow.methods.least_squares import Candidate, Fit, draw_expansion, grow, row_points
from pinnflow.methods.newton import NewtonSearch, smooth_extension
from pinnflow.methods.rows import (
    Function,
    atom_values,
    error_share,
    linearise,
    measure,
    row_terms,
    solve_rows,
    weighted_residual,
)
from pinnflow.methods.unknowns import Coefficients, Found, certainty, fixed, identifiability_remark
from pinnflow.trial.expansion import Expansion, FeatureTrial

FIRST_STEPS = 30
LATER_STEPS = 6
OBSERVATION_WEIGHT = 1e-2
PROMISING = 1e-2  # score of the first steps on small bases
SCORE_SHARE = 0.1  # of the observations' misfit in the score: below the noise there is nothing to be gained


def solve_joint(task: Task, alternative: bool = False) -> Outcome | None:
    """First steps on small bases, then the search and the growth of Newton's method.

    Args:
        alternative: another method is waiting; None is returned when the first steps show that features do not do.
    """
    search = JointSearch(task)
    search.first_solution()
    if alternative and search.current_score > PROMISING:
        return None
    if search.current_score < math.inf:
        search.pilots()
    if not search.tried:
        return Outcome(None, math.inf, math.inf, "no start led to a finite solution within the time", "inverse")
    return search.finish(grow(task, search))


class JointSearch(NewtonSearch):
    """Newton's search with columns for the coefficients beside those of the features."""

    method = "inverse"

    def __init__(self, task: Task):
        self.whole, self.coefficients = task, Coefficients(task)
        self.z = self.coefficients.clip(self.coefficients.start)
        self.found: dict[Candidate, np.ndarray] = {}
        super().__init__(self.at(self.z))

    def at(self, z: np.ndarray) -> Task:
        """The task with these coefficients, observations as statements."""
        return fixed(self.whole, self.coefficients.values(z), observations=True)

    # -- first solution --------------------------------------------------------------------------------------------

    def first_solution(self) -> None:
        """From a smooth function through the data, on a few small bases."""
        even = (1.0,) * self.task.dimension
        bases = [Candidate("chebyshev", even, self.pilot)]
        bases += [Candidate("sin", tuple(s * e for e in even), self.pilot) for s in (3.0, 6.0)]
        begin = self.z
        for candidate in bases:
            if self.out_of_time(0.0):
                break
            started = self.whole.clock.elapsed
            expansion = draw_expansion(self.task, candidate)
            points = row_points(self.task, expansion, clustered=True)
            weights = smooth_extension(self.task, expansion, points)
            z = self.regress(begin, points, FeatureTrial(expansion, weights).function)
            weights, z = self.steps(expansion, points, FeatureTrial(expansion, weights).function, z, FIRST_STEPS)
            if weights is None:
                continue
            self.accept_at(candidate, self.measured_at(candidate, expansion, weights, z, started), z)
            self.whole.record(
                "start",
                unknowns=expansion.size,
                score=self.current_score,
                message=f"{candidate}: {self.coefficients.text(z)}",
            )
            if self.current_score < 1e-3:
                break

    def regress(self, z: np.ndarray, points: list[Tensor], function: Function) -> np.ndarray:
        """The coefficients that fit the equations best for a given function, by one linear step within the bounds."""
        task = self.at(z)
        rows, right = [], []
        for (term, wide), place in zip(self.pairs(task), points, strict=True):
            if term.block.kind != "equation":
                continue
            values = atom_values(task, term, place, function)
            rows.append(self.columns(wide, place, values, z))
            right.append(-term.residual.value(place, values, []).numpy())
        matrix, target = np.concatenate(rows), np.concatenate(right)
        if not (np.isfinite(matrix).all() and np.isfinite(target).all()):
            return z
        return self.coefficients.clip(z + np.linalg.lstsq(matrix, target, rcond=1e-8)[0])

    def pairs(self, task: Task):
        """[(term with numbers, the same with coefficients)]."""
        return list(zip(row_terms(task), row_terms(self.whole), strict=True))

    def columns(self, wide, place, values, z) -> np.ndarray:
        """dF/dz at the places of a term, `[n, k]`."""
        numbers = [torch.tensor(v, dtype=torch.float64) for v in self.coefficients.values(z)]
        slopes = wide.residual.unknown_slopes(place, values, numbers)
        plain = np.stack([s.expand(len(place)).numpy() for s in slopes], axis=1)
        return plain * self.coefficients.slopes(z)

    # -- Gauss-Newton ----------------------------------------------------------------------------------------------

    def fit(self, candidate: Candidate) -> Fit:
        """A few joint steps on a candidate's features, begun at the current solution."""
        started = self.whole.clock.elapsed
        expansion = draw_expansion(self.task, candidate)
        points = row_points(self.task, expansion, clustered=candidate.family == "chebyshev")
        weights, z = self.steps(expansion, points, self.current, self.z, LATER_STEPS)
        if weights is None:
            weights, z = torch.zeros(expansion.size, dtype=torch.float64), self.z
        fitted = self.measured_at(candidate, expansion, weights, z, started)
        self.found[candidate] = z
        if fitted.measure.score() < self.current_score:
            self.z = z  # `accept` takes the function
        return fitted

    def accept_at(self, candidate: Candidate, fitted: Fit, z: np.ndarray) -> None:
        self.found[candidate] = z
        if fitted.measure.score() < self.current_score:
            self.z = z
        self.accept(fitted)

    def system(self, expansion: Expansion, points: list[Tensor], function: Function, z: np.ndarray):
        """(matrix `[m, size + k + 1]` for weights, step of z, right side; row scales; weight of each row)."""
        task = self.at(z)
        rows = linearise(task, expansion, points, function)
        extra, weight = [], []
        for (term, wide), place, scale in zip(self.pairs(task), points, rows.scales, strict=True):
            values = atom_values(task, term, place, function)
            extra.append(self.columns(wide, place, values, z) / scale)
            weight.append(np.full(len(place), OBSERVATION_WEIGHT if term.block.kind == "observation" else 1.0))
        columns = torch.as_tensor(np.concatenate(extra))
        size = expansion.size
        matrix = torch.cat([rows.matrix[:, :size], columns, rows.matrix[:, size:]], dim=1)
        scales = [
            s / (OBSERVATION_WEIGHT if t.block.kind == "observation" else 1.0)
            for t, s in zip(row_terms(task), rows.scales, strict=True)
        ]
        return matrix, scales, torch.as_tensor(np.concatenate(weight))

    def steps(self, expansion: Expansion, points: list[Tensor], function: Function, z: np.ndarray, count: int):
        """(weights, z) after at most `count` steps with backtracking; (None, z) when nothing is finite."""
        weights, size = None, expansion.size
        for _ in range(count):
            if self.whole.clock.over() and weights is not None:
                break
            matrix, scales, weight = self.system(expansion, points, function, z)
            matrix = matrix * weight[:, None]
            if not torch.isfinite(matrix).all():
                break
            solution = solve_rows(matrix)[0]
            target, move = solution[:size], solution[size:].numpy()
            move = move * min(1.0, 2.0 / max(float(np.abs(move).max()), 1e-300))
            before = weighted_residual(self.at(z), points, scales, function)
            share, done = 1.0, False
            if weights is None:  # the first step also moves onto this basis
                new_z = self.coefficients.clip(z + move)
                weights, z, done = target, new_z, True
            else:
                for _ in range(10):
                    new = weights + share * (target - weights)
                    new_z = self.coefficients.clip(z + share * move)
                    after = weighted_residual(self.at(new_z), points, scales, FeatureTrial(expansion, new).function)
                    if after < before * (1 - 1e-4 * share):
                        weights, z, done = new, new_z, True
                        break
                    share /= 2
                if not done or (share == 1.0 and after > 0.9 * before):
                    break
            function = FeatureTrial(expansion, weights).function
        return weights, z

    def measured_at(self, candidate, expansion, weights, z, started) -> Fit:
        """The fit with its residuals, observations counted for a tenth."""
        trial, task = FeatureTrial(expansion, weights), self.at(z)
        result = measure(task, self.checks, trial.function)
        share = [SCORE_SHARE if t.block.kind == "observation" else 1.0 for t in row_terms(task)]
        return Fit(
            candidate,
            trial,
            replace(result, residuals=result.residuals * np.array(share)),
            self.whole.clock.elapsed - started,
        )

    # -- result ----------------------------------------------------------------------------------------------------

    def outcome(self, stop: str, fresh: Tensor) -> Outcome:
        made = super().outcome(stop, fresh)
        made.unknowns = dict(
            zip(
                self.coefficients.symbols,
                map(float, self.coefficients.values(self.found[self.ranked()[0].candidate])),
                strict=True,
            )
        )
        return made

    def finish(self, outcome: Outcome) -> Outcome:
        """The outcome with intervals and the remark on what is not determined."""
        best = self.ranked()[0]
        z = self.found[best.candidate]
        expansion, size = best.trial.expansion, best.trial.expansion.size
        points = row_points(self.task, expansion, clustered=False)
        matrix, scales, _ = self.system(expansion, points, best.function, z)
        task = self.at(z)
        noise_known, residuals, factor, start = True, [], np.ones(len(matrix)), 0
        for term, place, scale in zip(row_terms(task), points, scales, strict=True):
            n = len(place)
            if term.block.kind == "observation":
                value = term.residual.value(place, atom_values(task, term, place, best.function), []).numpy()
                values, noise = np.asarray(term.block.data[1]), term.block.data[2]
                noise_known &= noise is not None
                unit = np.asarray(noise) if noise is not None else np.full(n, np.std(values) or 1.0)
                residuals.append((value - values) / unit)
                factor[start : start + n] = scale * OBSERVATION_WEIGHT / unit
            start += n
        residual = np.concatenate(residuals)
        # Equations are constraints: their rows weigh far more than the noise.
        sigma = 1.0 if noise_known else max(float(np.sqrt(np.mean(residual**2))), 1e-12)
        is_observation = np.concatenate(
            [np.full(len(p), t.block.kind == "observation") for t, p in zip(row_terms(task), points, strict=True)]
        )
        factor[~is_observation] = 1e4 * np.abs(factor[is_observation]).mean()
        scaled = matrix.numpy()[:, :-1] * factor[:, None]
        left, right = scaled[:, :size], scaled[:, size:]
        across = right - left @ np.linalg.lstsq(left, right, rcond=1e-12)[0]
        known = certainty(across, residual, noise_known)
        covariance = known.covariance * (1.0 if noise_known else (sigma / max(known.noise, 1e-300)) ** 2)
        ranked = self.ranked()
        other = self.found.get(ranked[1].candidate, z) if len(ranked) > 1 else z
        share = error_share(best.score, ranked[1].score) if len(ranked) > 1 else 1.0
        errors = np.sqrt(np.diag(covariance) + (share * (other - z)) ** 2) * np.abs(self.coefficients.slopes(z))
        errors = np.where(known.lost, np.inf, errors)
        values = self.coefficients.values(z)
        outcome.unknowns = {
            s: Found(float(v), float(e)) for s, v, e in zip(self.coefficients.symbols, values, errors, strict=True)
        }
        remark = identifiability_remark(self.coefficients.symbols, known.lost)
        outcome.stop = f"{remark}. {outcome.stop}" if remark else outcome.stop
        outcome.remarks.append(
            "fields and coefficients together, since the statements alone do not determine the fields"
        )
        return outcome
