"""The table of costs."""

from nncore import kernels
from nncore.costs import COSTS, costs


def test_every_variant_has_its_costs(isa, dtype):
    assert costs(dtype, isa) is COSTS[isa, dtype] and all(value > 0 for value in costs(dtype, isa))
    assert costs(dtype) == costs(dtype, kernels.chosen()[0])


def test_wider_vectors_and_shorter_numbers_are_faster():
    for weaker, stronger in (("v2", "v3"), ("v3", "v4")):
        for dtype in ("float32", "float64"):
            assert all(a < b for a, b in zip(COSTS[weaker, dtype], COSTS[stronger, dtype], strict=True))
        assert all(a < b for a, b in zip(COSTS[weaker, "float64"], COSTS[weaker, "float32"], strict=True))
