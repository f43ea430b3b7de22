"""Reports and controls: what is flagged, what stands beside what, and that a seed decides everything."""

import json

import pytest
import torch

from pinnflow.errors import NotApplicable, WrongShape
from pinnflow.latent.generators.warped import WarpedGenerator
from pinnflow.latent.metrics.controls import Attractor, Oracle, RandomDirections
from pinnflow.latent.metrics.measures import COLUMNS, METRICS, flags, register_metric
from pinnflow.latent.metrics.report import Report, evaluate, evaluate_seeds, summarise
from pinnflow.latent.metrics.walks import draw_labels
from pinnflow.latent.traversal import Flow

SMALL = {"pairs": 300, "repeats": 1}


def generator(**settings):
    return WarpedGenerator(**{"size": 12, **settings})


class Slow(Flow):
    """Moves a little, and has an equation that is violated by `ratio`."""

    def __init__(self, generator=None, ratio=0.0, latent_dim=8):
        super().__init__(generator, latent_dim, 2, name="slow", device="cpu")
        self.ratio = ratio

    def velocity(self, z, t, k=0):
        return torch.full_like(z, 1e-9)

    def residual(self, z, t, k=None):
        if self.ratio is None:
            raise NotApplicable("no equation")
        return torch.full((len(z),), self.ratio)


@pytest.fixture(scope="module")
def report():
    """The controls alone stand beside a flow of the user: one report for many questions, 12 x 12 pixels."""
    flow = RandomDirections(generator(), potentials=5, seed=7, device="cpu", name="mine")
    return evaluate(flow, pairs=1500, repeats=2)


def test_attractor_is_recognised_best_and_flagged_as_collapse(report):
    """The lesson of the control: a VP near 1 with chance-level factors."""
    row = report.values["attractor"]
    assert row["vp"] > 0.95
    assert row["vp"] > report.values["oracle"]["vp"]
    assert row["concentration"] < 0.32
    assert row["variance"] == pytest.approx(0.5**12, rel=1e-6)
    assert "collapse" in report.flags["attractor"]
    assert "collapse" in report.flags["attractor, equal steps"]


def test_oracle_has_one_factor_each_and_no_flag(report):
    row = report.values["oracle"]
    assert min(row["concentration"], row["gap"], row["match"], row["coverage"], row["disentanglement"]) > 0.999
    assert row["strict"] == 1
    assert row["correlation"] > 0.999
    assert row["correlation_as_published"] < 0.9
    assert row["vp"] > 0.7  # 0.93 from 400 pairs; here are 150
    assert report.details["oracle"]["matched"] == [0, 1, 2, 3, 4]
    assert report.flags["oracle"] == ()


def test_random_directions_keep_the_variance_and_know_no_factors(report):
    for name in ("mine", "random"):
        row = report.values[name]
        assert row["variance"] == pytest.approx(1, rel=1e-9)
        assert row["straightness"] == pytest.approx(1, rel=1e-9)
        assert row["length"] == pytest.approx(2.1, rel=1e-9)
        assert row["concentration"] < 0.4
        assert row["vp"] < report.values["oracle"]["vp"] - 0.15
        assert report.flags[name] == ()


def test_chance_and_protocol_are_printed(report):
    text = str(report)
    for part in ("1500 walks of 6 steps", "K = 5", "0.200", "10 % of the pairs", "2 repeats", "collapse", "mine"):
        assert part in text
    assert "random (control)" in text
    for column in ("VP", "concentration", "variance", "drift", "straight"):
        assert f"  {column}: " in text  # every column is explained
    assert "residual" not in text  # no flow here has an equation


def test_markdown_has_a_row_for_each_flow(report):
    lines = [line for line in report.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(report.values)
    assert len({line.count("|") for line in lines}) == 1


def test_dictionary_goes_through_json(report):
    data = json.loads(json.dumps(report.to_dict()))
    assert data["values"]["oracle"]["vp"] == report.values["oracle"]["vp"]
    assert data["controls"] == ["random", "oracle", "attractor", "attractor, equal steps"]
    assert len(data["details"]["mine"]["movement"]) == 5
    assert data["settings"]["pairs"] == 1500


def test_a_seed_decides_everything():
    flow = RandomDirections(generator(), potentials=3, device="cpu")
    first, second, other = (evaluate({"mine": flow}, seed=seed, **SMALL).to_dict() for seed in (1, 1, 2))
    assert first == second
    assert first["values"]["mine"]["vp"] != other["values"]["mine"]["vp"]
    assert first["values"]["random"]["concentration"] != other["values"]["random"]["concentration"]


def test_starts_are_drawn_by_the_seed_or_given():
    flow = RandomDirections(None, 8, 1, device="cpu", name="mine")
    drifts = [evaluate(flow, seed=seed, pairs=20).values["mine"]["drift"] for seed in (1, 2)]
    assert drifts[0] != drifts[1]
    given = evaluate(flow, starts=torch.diag(torch.arange(8.0)), controls=False)
    assert given.settings["pairs"] == 8
    expected = -2.1 * float((flow.directions[0] * torch.arange(8.0)).mean()) - 2.1**2 / 2
    assert given.values["mine"]["drift"] == pytest.approx(expected)


def test_a_factor_that_falls_steadily_is_as_good_as_one_that_rises():
    class Backwards(Oracle):
        def traverse(self, z, potential=0, steps=6, step_length=0.35, direction=1, **settings):
            return super().traverse(z, potential, steps, step_length, -1, **settings)

    flow = Backwards(generator(), device="cpu", name="mine")
    assert evaluate(flow, controls=False, **SMALL).values["mine"]["strict"] == 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"pairs": 0}, ValueError, "`pairs` is 0"),
        ({"pairs": 2.5}, ValueError, r"`pairs` is 2\.5"),
        ({"repeats": 0}, ValueError, "`repeats` is 0"),
        ({"points": 0}, ValueError, "`points` is 0"),
        ({"attributes": lambda x: x.flatten(1)[:, :2], "frames": 2}, ValueError, "`frames` is 2, too few to see"),
        ({"labelled": (torch.rand(9, 1, 8, 8), torch.arange(9) % 3)}, WrongShape, r"learned from \(1, 8, 8\)"),
    ],
)
def test_reports_that_cannot_be_made_say_why(settings, error, message):
    """No repeat gave a VP of NaN; the others came as errors of torch, or of the measure that met them first."""
    flow = RandomDirections(generator(), potentials=3, device="cpu", name="mine")
    with pytest.raises(error, match=message):
        evaluate(flow, **{"pairs": 60, "controls": False, **settings})


def test_what_is_no_flow_is_refused():
    with pytest.raises(TypeError, match="`evaluate` was given a WarpedGenerator; expected a flow"):
        evaluate(generator())
    with pytest.raises(TypeError, match="given a list"):
        evaluate([RandomDirections(None, 3)])


def test_a_report_without_images_says_k_and_nothing_of_vp():
    found = str(evaluate(RandomDirections(None, 3, 2, device="cpu"), pairs=20))
    assert "20 walks of 6 steps, length 0.35; K = 2; seed 0" in found
    assert "VP" not in found


def test_quick_has_one_repeat_and_fewer_controls():
    flow = RandomDirections(generator(), potentials=3, device="cpu", name="mine")
    found = evaluate(flow, quick=True, pairs=150)
    assert "vp_spread" not in found.values[flow.name]  # one repeat has none to be proud of
    assert "±" not in str(found)
    assert "1 repeat;" in str(found)
    assert list(found.values) == ["mine", "random", "oracle", "attractor"]
    assert len(found.details["mine"]["vp_scores"]) == 1


def test_flows_of_different_k_have_controls_of_their_own():
    g = generator()
    flows = {f"K{k}": RandomDirections(g, potentials=k, device="cpu") for k in (2, 7)}
    found = evaluate(flows, quick=True, pairs=280)
    assert found.values["K2"]["chance"] == pytest.approx(1 / 2)
    assert found.values["random, K = 7"]["chance"] == pytest.approx(1 / 7)
    assert found.values["oracle, K = 2"]["chance"] == pytest.approx(1 / 2)
    assert found.values["oracle, K = 7"]["chance"] == pytest.approx(1 / 5)  # there are five factors
    assert "K = 2, 7; VP" in str(found)


def test_a_flow_named_like_a_control_keeps_its_name():
    found = evaluate({"random": RandomDirections(None, 8, 2, device="cpu")}, pairs=20)
    assert list(found.values) == ["random", "random (control)", "attractor", "attractor, equal steps"]


def test_raw_velocities_are_compared_at_equal_length():
    """An attractor with raw steps goes 0.98 |a - z|; random directions must go as far."""
    found = evaluate(Attractor(None, 8, 4, device="cpu", seed=9, name="mine"), step_length=None, pairs=400)
    assert found.values["random"]["length"] == pytest.approx(found.values["mine"]["length"], rel=1e-9)
    assert found.values["mine"]["length"] > 3
    assert "raw velocities" in str(found)


def test_violated_equation_is_flagged():
    assert evaluate(Slow(ratio=0.75), pairs=20).flags["slow"] == ("PDE not satisfied",)
    assert evaluate(Slow(ratio=float("nan")), pairs=20).flags["slow"] == ("PDE not satisfied",)
    satisfied = evaluate(Slow(ratio=1e-12), pairs=20)
    assert satisfied.flags["slow"] == ()
    assert satisfied.values["slow"]["residual"] == pytest.approx(1e-12)
    assert "1.0e-12" in str(satisfied)


@pytest.mark.parametrize(
    ("norms", "flag"),
    [({0: 0.02, 1: 0.9}, "PDE not satisfied"), ({0: 0.02, 1: 0.04}, "PDE satisfied where its terms are large")],
)
def test_each_potential_has_to_satisfy_the_equation(norms, flag):
    """One that does not is not averaged away; single points where all terms are small are told apart from that."""
    flow, asked = Slow(ratio=0.2), []
    flow.residual_norms = lambda z, t, k: asked.append((z.shape, set(t.tolist()), set(k.tolist()))) or norms
    found = evaluate(flow, pairs=20)
    assert found.flags["slow"] == (flag,)
    assert found.values["slow"]["residual_norm"] == norms[1]
    assert found.details["slow"]["residual_norms"] == [0.02, norms[1]]
    assert asked == [((120, 8), {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, {0, 1})]


def test_potentials_that_leave_codes_where_they_are_are_flagged():
    """The second of two moves a code to the right of zero only: about half of them, and fewer later."""

    class Half(Slow):
        def velocity(self, z, t, k=0):
            k = torch.as_tensor(k, device=z.device).expand(len(z))
            return torch.where(((k == 0) | (z[:, 0] < -1))[:, None], torch.ones_like(z), torch.zeros_like(z))

    found = evaluate(Half(), pairs=4000)
    (flag,) = found.flags["slow"]
    still, moving = found.details["slow"]["moving"][1], found.details["slow"]["moving"][0]
    assert moving == 1
    # A code below -1 goes on by 0.35 / sqrt(8) = 0.124 a step until it is there.
    ahead = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor([-1 - 0.35 / 8**0.5 * i for i in range(6)]))
    assert still == pytest.approx(float(ahead.mean()), abs=0.02)
    assert flag == f"potential 1 leaves codes where they are ({still:.0%} of the steps move one)"


def test_a_flow_without_an_equation_has_no_residual():
    assert "residual" not in evaluate(Slow(ratio=None), pairs=20).values["slow"]


def test_a_flow_that_changes_no_image_is_flagged():
    class Still(Slow):
        def velocity(self, z, t, k=0):
            return torch.zeros_like(z)

    found = evaluate(Still(generator()), pairs=60, quick=True)
    assert found.flags["slow"] == (
        "potential 0 leaves codes where they are (0% of the steps move one)",
        "potential 1 leaves codes where they are (0% of the steps move one)",
        "no visible change",
    )
    assert found.values["slow"]["concentration"] == pytest.approx(1 / 5)
    assert found.values["slow"]["vp"] == pytest.approx(1 / 2)


def test_collapse_of_one_potential_is_flagged_by_its_number():
    row = {"variance": 0.9, "variance_least": 0.2, "variances": [1.2, 0.2, 1.3]}
    assert flags(row) == ("collapse of potential 1",)
    assert flags(row | {"variance_least": 0.51}) == ()


def test_without_a_generator_only_the_latent_space_is_measured():
    row = evaluate(RandomDirections(None, 4, 2, device="cpu", name="mine"), pairs=20).values["mine"]
    assert {"variance", "drift", "straightness", "length"} <= row.keys()
    assert not {"vp", "concentration"} & row.keys()


def test_attributes_seen_in_images_stand_for_factors():
    """Read from the pictures, the exact traversals still move one attribute each (pixels blur the reading)."""
    g = WarpedGenerator()
    found = evaluate(
        Oracle(g, device="cpu"), controls=False, pairs=200, repeats=1, frames=100, attributes=g.read_factors
    )
    assert found.values["oracle"]["concentration"] > 0.95
    with pytest.raises(WrongShape, match="number of attributes"):
        evaluate(Oracle(g, device="cpu"), controls=False, pairs=50, attributes=lambda images: images)


def test_class_kept_by_a_classifier_and_by_labelled_codes():
    """The class is the sign of the first coordinate of the code; walks that change only the second keep it."""
    g = generator()
    flow = RandomDirections(g, potentials=2, device="cpu", name="mine")
    flow.directions = torch.eye(8, dtype=torch.float64)[1:3]
    codes = flow.sample(500, seed=5)
    found = evaluate(flow, controls=False, labelled=(codes, (codes[:, 0] > 0).long()), **SMALL)
    assert found.values["mine"]["class_kept"] > 0.9
    flow.directions = torch.eye(8, dtype=torch.float64)[:2].flip(0)
    crossing = evaluate(flow, controls=False, labelled=(codes, (codes[:, 0] > 0).long()), **SMALL)
    assert crossing.values["mine"]["class_kept_end"] < 0.85
    bright = evaluate(
        flow, controls=False, classifier=lambda images: (images.mean(dim=(1, 2, 3)) > 0.2).long(), **SMALL
    )
    assert 0.3 < bright.values["mine"]["class_kept"] <= 1
    with pytest.raises(ValueError, match="not both"):
        evaluate(flow, classifier=lambda images: images, labelled=(codes, codes))


def test_scores_of_potentials_as_codes():
    """n_k . z along the factors of an unwarped generator are the factors, up to a monotone change."""
    pytest.importorskip("sklearn")
    g = generator(warp=0.0)
    flow = RandomDirections(g, potentials=5, device="cpu", name="mine")
    flow.directions = g.unwarp(torch.eye(8, dtype=torch.float64)[:5])
    row = evaluate(flow, controls=False, scores=True, pairs=1000, repeats=1).values["mine"]
    assert min(row["mig"], row["sap"], row["dci"]) > 0.8


def test_median_and_range_over_fits():
    g = generator()
    found = evaluate_seeds(
        lambda seed: RandomDirections(g, potentials=2, seed=seed, device="cpu", name="mine"),
        (0, 1, 2),
        pairs=100,
        quick=True,
        controls=False,
    )
    values = sorted(report.values["mine"]["concentration"] for report in found.reports)
    assert found.median["mine"]["concentration"] == values[1]
    assert found.range["mine"]["concentration"] == (values[0], values[2])
    assert values[0] < values[2]
    assert "seeds 0, 1, 2" in str(found)
    assert f"{values[1]:.3f} ({values[0]:.3f} to {values[2]:.3f})" in found.to_markdown()
    assert "| 0.500 |" in found.to_markdown()  # chance, from 0.500 to 0.500
    json.dumps(found.to_dict())


def test_flags_are_counted_over_fits():
    def one(flag):
        return Report({"a": {"variance": 1.0}}, {"a": {}}, {"a": flag}, (), {"seed": 0})

    found = summarise([one(("collapse",)), one(()), one(("collapse",))])
    assert found.flags == {"a": {"collapse": 2}}
    assert "collapse (2 of 3)" in str(found)
    with pytest.raises(ValueError, match="same flows"):
        summarise([])


def test_a_new_metric_is_one_function():
    @register_metric("test", radius=("radius", 1, "of the first start"))
    def radius(walks):
        return {"radius": float(walks.path[0, 0].norm())}

    try:
        assert "radius" in str(evaluate(Slow(), pairs=20))
    finally:
        del METRICS["test"], COLUMNS["radius"]


def test_flows_over_different_spaces_are_refused():
    with pytest.raises(ValueError, match="the flow `b` has another generator"):
        evaluate({"a": Slow(generator()), "b": Slow(generator())})
    with pytest.raises(ValueError, match="no flow"):
        evaluate({})


def test_labels_are_balanced_and_shuffled():
    labels = draw_labels(300, 3, 0)
    assert torch.bincount(labels).tolist() == [100, 100, 100]
    assert not torch.equal(labels, torch.arange(300) % 3)


@pytest.mark.parametrize("direction", [1, -1])
def test_oracle_walks_where_its_velocity_points_and_back(direction):
    g = generator()
    oracle = Oracle(g, device="cpu")
    z, k = oracle.sample(20), torch.arange(20) % 5
    path = oracle.traverse(z, k, 6, 0.35, direction)
    torch.testing.assert_close(path, g.oracle(z, k, 6, 0.35, direction))
    # A step of 1e-5 bends by that much times the curvature, about 30 at most.
    step = oracle.traverse(z, k, 1, 1e-5, direction)
    torch.testing.assert_close((step[1] - z) / 1e-5, direction * oracle.velocity(z, 0.0, k), rtol=0, atol=1e-3)
    torch.testing.assert_close(oracle.inverse(path[-1], k, 6, 0.35, direction), path.flip(0))


def test_attractor_contracts_by_its_rate_and_is_a_gradient():
    flow = Attractor(None, 3, 2, rate=0.25, device="cpu")
    z, k = flow.sample(10), torch.arange(10) % 2
    path = flow.traverse(z, k, 2, None)
    torch.testing.assert_close(path[2] - flow.points[k], 0.75**2 * (z - flow.points[k]))
    z.requires_grad_()
    (slope,) = torch.autograd.grad(flow.potential(z, 0.0, k).sum(), z)
    torch.testing.assert_close(slope, flow.velocity(z, 0.0, k))
    with pytest.raises(ValueError, match="`rate` is 2"):
        Attractor(None, 3, 2, rate=2)


def test_oracle_needs_a_generator_that_has_one():
    with pytest.raises(ValueError, match="Linear are not known"):
        Oracle(torch.nn.Linear(3, 3), 2)
