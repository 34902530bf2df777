"""Measurements: kernels against NumPy (pytest-benchmark), the machine's limits (`python -m bench.roofline`), and whole
training steps against other frameworks (`python -m bench.peers`)."""
