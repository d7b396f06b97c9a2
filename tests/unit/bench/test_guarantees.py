"""What a guarantee adds is the median of the differences of the rounds, for each process."""

from bench.guarantees import FENCE_READ, GUARANTEES, KINDS, POST, Measured, Sample


def test_the_differences_are_those_of_the_same_round() -> None:
    plain = [Sample(10, {"gateway": 5.0, "s3": 2.0}), Sample(20, {"gateway": 7.0, "s3": 2.0})] * 2
    slower = [Sample(14, {"gateway": 6.0, "s3": 2.0}), Sample(26, {"gateway": 9.0, "s3": 1.0})] * 2
    writes = {kind: slower if kind in GUARANTEES else plain for kind in KINDS}
    found = Measured(writes, [Sample(1.0, {"gateway": 0.5})]).document()
    assert found["writes"][0] == {"name": POST.name, "p50_ms": 15, "cpu_ms": {"gateway": 6.0, "s3": 2.0}}
    assert len(found["writes"]) == 3
    added = found["guarantees"][0]
    assert (added["without"], added["p50_ms"], added["cpu_ms"]) == (POST.name, 5, {"gateway": 1.5, "s3": -0.5})
    assert found["guarantees"][-1] == {"name": FENCE_READ, "without": None, "p50_ms": 1, "cpu_ms": {"gateway": 0.5}}
