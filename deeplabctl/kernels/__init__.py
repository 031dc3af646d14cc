"""Functions in, compiled functions out: numba, its cache on this machine, and vectors of float32."""
