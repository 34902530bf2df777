"""Measurements: kernels against NumPy, fused kernels and whole steps against what they reached before of the machine's
limit (pytest-benchmark; `python -m bench.record`), that limit (`python -m bench.roofline`), training against other
frameworks (`python -m bench.peers`) and against another version of nnpy (`python -m bench.versions`)."""
