"""When compiling pays."""

from pinnflow.compiler import payoff
from pinnflow.compiler.payoff import Stopwatch


def test_compiling_pays_by_the_time_steps_take(monkeypatch):
    monkeypatch.setattr(payoff.os, "getloadavg", lambda: (0.3, 0.3, 0.3))
    watch = Stopwatch()
    watch.step = 0.01
    assert watch.cost == watch.idle_cost
    assert watch.pays_after == watch.idle_cost / (watch.share * 0.01)
    watch.steps = watch.pays_after - 1
    assert not watch.pays
    watch.steps += 1
    assert watch.pays


def test_compiling_is_expected_to_take_longer_on_a_busy_machine(monkeypatch):
    monkeypatch.setattr(payoff.os, "cpu_count", lambda: 2)
    for load, times in ((0.1, 1), (2.0, 1), (6.0, 3)):
        monkeypatch.setattr(payoff.os, "getloadavg", lambda load=load: (load, 0, 0))
        assert Stopwatch().cost == times * Stopwatch.idle_cost
    monkeypatch.delattr(payoff.os, "getloadavg")
    assert Stopwatch().cost == Stopwatch.idle_cost
